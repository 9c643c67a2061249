//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	ratingsURL = "http://ratings:9080/ratings/0"
	ratingsID  = "default/ratings"
)

// ratingsPolicy is a policy on ratings with this rule.
func ratingsPolicy(rule string) string {
	return `apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata:
  name: ratings
  namespace: default
spec:
  targetRefs:
  - kind: Service
    name: ratings
  rules:
` + rule
}

const (
	limitRule = `  - name: at-most-50
    limit:
      rates:
      - limit: 50
        window: 1s
`
	denyRule = `  - name: nobody
    match: request.path == "/ratings/0"
    access:
      action: Deny
`
)

// policyDir is a directory with the policy ratings.yaml.
func policyDir(t *testing.T, text string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "ratings.yaml")
	writePolicy(t, file, text)
	return dir, file
}

// writePolicy replaces a policy file at once: half a file would be refused,
// which is right, and not what is tested here.
func writePolicy(t *testing.T, file, text string) {
	t.Helper()
	fresh := filepath.Join(t.TempDir(), "fresh")
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, file); err != nil {
		t.Fatal(err)
	}
}

// policies is what the hub says of its policies.
func (d *demo) policies() (topologyv1.PolicyList, error) {
	var l topologyv1.PolicyList
	return l, getJSON(d.Hub+"/api/mesh/v1/policies", &l)
}

// programmed waits until every sidecar has the policy, in a version other than
// that one, and returns its status.
func (d *demo) programmed(not string) (status topologyv1.PolicyStatus) {
	d.t.Helper()
	eventually(d.t, 10*time.Second, "every sidecar has the policy", func() error {
		l, err := d.policies()
		if err != nil {
			return err
		}
		if len(l.Policies) != 1 || l.Policies[0].Version == not {
			return fmt.Errorf("policies %+v, errors %+v", l.Policies, l.Errors)
		}
		if status = l.Policies[0]; status.Programmed != 7 {
			return fmt.Errorf("%d of %d sidecars have it", status.Programmed, status.Sidecars)
		}
		return nil
	})
	return status
}

// tally counts answers by status.
type tally struct {
	ok, throttled, denied, other atomic.Int64
	// wrong is the first 429 without the headers that it must have.
	wrong atomic.Pointer[string]
}

func (c *tally) count(a answer, err error) {
	switch {
	case err != nil:
		c.other.Add(1)
	case a.status == http.StatusOK:
		c.ok.Add(1)
	case a.status == http.StatusForbidden:
		c.denied.Add(1)
	case a.status == http.StatusTooManyRequests:
		c.throttled.Add(1)
		for _, name := range []string{"Retry-After", "Ratelimit", "Ratelimit-Policy"} {
			if a.header.Get(name) == "" {
				text := fmt.Sprintf("a 429 without %s: %v", name, a.header)
				c.wrong.CompareAndSwap(nil, &text)
			}
		}
	default:
		c.other.Add(1)
	}
}

// demand calls ratings at a rate for a time, waits for every answer, and
// returns the counts and how long it really took.
func (d *demo) demand(perSecond int, length time.Duration) (*tally, time.Duration) {
	d.t.Helper()
	client := d.through()
	c := &tally{}
	due := make(chan struct{}, 4*perSecond)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range due {
				c.count(call(client, ratingsURL))
			}
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	sent := 0
	for now := range tick.C {
		passed := min(now.Sub(began), length)
		for ; sent < int(passed.Seconds()*float64(perSecond)); sent++ {
			due <- struct{}{}
		}
		if passed == length {
			break
		}
	}
	close(due)
	callers.Wait()
	return c, time.Since(began)
}

// verdicts is how often a sidecar or the hub's PromQL counted a decision.
func (d *demo) verdicts(decision string) (sidecar, promqlCount float64, err error) {
	sidecar, err = scrape.Sum(d.t.Context(), "http://"+d.Admins["ratings-v1"], vocab.MetricPolicyChecks, map[string]string{"policy": ratingsID, "decision": decision})
	if err != nil {
		return 0, 0, err
	}
	promqlCount, err = promql(d.Hub, fmt.Sprintf("sum(%s{policy=%q,decision=%q})", vocab.MetricPolicyChecks, ratingsID, decision))
	return sidecar, promqlCount, err
}

func TestALimitOfFiftyAdmitsFiftyAndTheVerdictsShowEverywhere(t *testing.T) {
	dir, _ := policyDir(t, ratingsPolicy(limitRule))
	d := startDemo(t, "--rate", "1", "--policy-dir", dir)
	d.programmed("")
	before, err := scrape.Sum(t.Context(), "http://"+d.Admins["ratings-v1"], vocab.MetricPolicyChecks, map[string]string{"decision": vocab.DecisionAllow})
	if err != nil {
		t.Fatal(err)
	}
	c, took := d.demand(200, 10*time.Second)
	after, err := scrape.Sum(t.Context(), "http://"+d.Admins["ratings-v1"], vocab.MetricPolicyChecks, map[string]string{"decision": vocab.DecisionAllow})
	if err != nil {
		t.Fatal(err)
	}
	// The demo's own calls of ratings draw on the same limit; the sidecar's
	// counter has both.
	admitted, want := after-before, 50*took.Seconds()
	t.Logf("admitted %.0f (%d of ours) in %s, throttled %d", admitted, c.ok.Load(), took, c.throttled.Load())
	if math.Abs(admitted-want) > 0.05*want {
		t.Errorf("admitted %.0f in %s, want %.0f ± 5 %%", admitted, took, want)
	}
	if n := c.other.Load() + c.denied.Load(); n > 0 || c.throttled.Load() == 0 {
		t.Errorf("%d answers are neither 200 nor 429, %d are 429", n, c.throttled.Load())
	}
	if wrong := c.wrong.Load(); wrong != nil {
		t.Error(*wrong)
	}
	d.verdictsShow(vocab.VerdictThrottled, vocab.DecisionThrottle, "at-most-50", uint64(c.throttled.Load()))
}

// verdictsShow waits until n refusals of the load's requests are in the graph,
// in the records, in PromQL and in the sidecar's own metrics.
func (d *demo) verdictsShow(verdict, decision, rule string, n uint64) {
	d.t.Helper()
	pick := func(s topologyv1.Signals) uint64 {
		if verdict == vocab.VerdictThrottled {
			return s.Throttled
		}
		return s.Denied
	}
	eventually(d.t, 10*time.Second, "graph, PromQL and sidecar count the refusals", func() error {
		g := d.graph(300)
		if e := edge(g, "loadgen-v1", "ratings-v1"); pick(e.Signals) != n {
			return fmt.Errorf("edge loadgen-v1 → ratings-v1 has %d of %d: %+v", pick(e.Signals), n, e)
		}
		// The demo's own requests may have been refused too.
		if of := node(g, "ratings-v1"); pick(of.Inbound) < n || of.Health != topologyv1.Degraded {
			return fmt.Errorf("node ratings-v1 has %d of %d and is %s: %s", pick(of.Inbound), n, of.Health, of.HealthReason)
		}
		sidecar, asked, err := d.verdicts(decision)
		if err != nil {
			return err
		}
		if sidecar != asked || sidecar < float64(n) {
			return fmt.Errorf("sidecar counts %.0f, PromQL %.0f, want at least %d", sidecar, asked, n)
		}
		return nil
	})
	var list topologyv1.RequestList
	if err := getJSON(d.Hub+"/api/mesh/v1/requests?from=loadgen&to=ratings&limit=20&status="+verdict, &list); err != nil {
		d.t.Fatal(err)
	}
	if len(list.Requests) == 0 {
		d.t.Errorf("no record with verdict %s", verdict)
	}
	for _, r := range list.Requests {
		if r.Verdict != verdict || r.Rule != ratingsID+"/"+rule {
			d.t.Errorf("record %s by %s has verdict %q of rule %q", r.RequestID, r.Reporter, r.Verdict, r.Rule)
		}
	}
}

func TestADeniedRequestIsAnswered403AndShown(t *testing.T) {
	dir, _ := policyDir(t, ratingsPolicy(denyRule))
	d := startDemo(t, "--rate", "1", "--policy-dir", dir)
	d.programmed("")
	const n = 20
	client := d.through()
	for range n {
		a, err := call(client, ratingsURL)
		if err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusForbidden {
			t.Fatalf("answer %d %q, want 403", a.status, a.body)
		}
	}
	if a, err := call(client, "http://ratings:9080/ratings/1"); err != nil || a.status != http.StatusOK {
		t.Errorf("what no rule denies is answered %d %q, %v", a.status, a.body, err)
	}
	d.verdictsShow(vocab.VerdictDenied, vocab.DecisionDeny, "nobody", n)
}

func TestAPolicyFileWithAnErrorIsRefusedAndTheOldPolicyStays(t *testing.T) {
	good := ratingsPolicy(limitRule)
	dir, file := policyDir(t, good)
	d := startDemo(t, "--rate", "1", "--policy-dir", dir)
	version := d.programmed("").Version
	for _, broken := range []struct{ name, text, at, reason string }{
		{"unknown field", strings.Replace(good, "window: 1s", "window: 1s\n        windw: 2s", 1), "16", "windw"},
		{"bad CEL", ratingsPolicy("  - name: at-most-50\n    match: request.nope == \"x\"\n    limit:\n      rates: [{limit: 50, window: 1s}]\n"), "12", "request.nope"},
		{"wrong type", strings.Replace(good, "limit: 50", "limit: many", 1), "14", "limit"},
	} {
		t.Run(broken.name, func(t *testing.T) { d.refuses(t, file, broken.text, broken.at, broken.reason, version) })
	}
	writePolicy(t, file, strings.Replace(good, "limit: 50", "limit: 40", 1))
	if mended := d.programmed(version); !strings.Contains(mended.Rules[0].Summary, "40") {
		t.Errorf("in force is %+v, want the mended one", mended)
	}
	if l, err := d.policies(); err != nil || len(l.Errors) > 0 {
		t.Errorf("errors of a mended file: %+v, %v", l.Errors, err)
	}
}

// refuses overwrites the policy with a broken one and checks that it is told
// and changes nothing.
func (d *demo) refuses(t *testing.T, file, text, line, reason, version string) {
	refused := map[string]string{"result": "refused"}
	before, err := scrape.Sum(t.Context(), d.Hub, vocab.MetricHubPolicyReloads, refused)
	if err != nil {
		t.Fatal(err)
	}
	writePolicy(t, file, text)
	eventually(t, 10*time.Second, "the file is refused", func() error {
		l, err := d.policies()
		if err != nil {
			return err
		}
		if len(l.Errors) == 0 {
			return errors.New("no error is listed")
		}
		e := l.Errors[0]
		if e.File != filepath.Base(file) || fmt.Sprint(e.Line) != line || !strings.Contains(e.Reason, reason) {
			return fmt.Errorf("listed is %+v, want line %s and %q in the reason", e, line, reason)
		}
		if len(l.Policies) != 1 || l.Policies[0].Version != version {
			return fmt.Errorf("in force is %+v, want version %s", l.Policies, version)
		}
		after, err := scrape.Sum(t.Context(), d.Hub, vocab.MetricHubPolicyReloads, refused)
		if err == nil && after != before+1 {
			err = fmt.Errorf("%s rose from %.0f to %.0f", vocab.MetricHubPolicyReloads, before, after)
		}
		return err
	})
	if c, _ := d.demand(200, time.Second); c.throttled.Load() == 0 || c.ok.Load() == 0 {
		t.Errorf("the old limit is not in force: %d admitted, %d throttled", c.ok.Load(), c.throttled.Load())
	}
	out, errs, code := d.meshctl("policy", "lint", file)
	if code != 2 || !strings.Contains(out+errs, file+":"+line+":") {
		t.Errorf("meshctl policy lint: exit %d, want 2 and %s:%s\n%s%s", code, file, line, out, errs)
	}
}
