package check

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/lease"
)

func parse(t testing.TB, rules string) []*policy.TrafficPolicy {
	t.Helper()
	ps, problems := policy.Parse("p.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules: [%s]
`, rules))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return ps
}

func newChecker(t testing.TB, rules string) *Checker {
	t.Helper()
	c := New(Options{Namespace: "shop", Service: "ratings"})
	if err := c.Apply(parse(t, rules)); err != nil {
		t.Fatal(err)
	}
	return c
}

func get() *Attributes {
	headers := map[string]string{"x-user": "ann"}
	return &Attributes{Method: "GET", Path: "/api/items?id=1", Source: Peer{Namespace: "shop", Workload: "web"},
		Header: func(name string) string { return headers[name] }}
}

func TestAnErrorLeavesTheOldSetInForce(t *testing.T) {
	c := newChecker(t, `{name: no, access: {action: Deny}}`)
	broken := parse(t, `{name: x, match: 'request.method == "GET"', access: {action: Allow}}`)
	broken[0].Spec.Rules[0].Match = "request.nope"
	if err := c.Apply(broken); err == nil || !strings.Contains(err.Error(), "compile policy shop/p: rule x: match: unknown name request.nope") {
		t.Errorf("Apply: %v", err)
	}
	if d := c.Check(t.Context(), Inbound, get()); d.Verdict != vocab.VerdictDenied || d.Rule != "no" {
		t.Errorf("got %+v, want the old denial", d)
	}
	if err := c.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if d := c.Check(t.Context(), Inbound, get()); d.Verdict != vocab.VerdictOK {
		t.Errorf("without policies: %+v", d)
	}
}

func TestPoliciesAreReplacedUnderTraffic(t *testing.T) {
	c := newChecker(t, `{name: no, access: {action: Deny}}`)
	sets := [][]*policy.TrafficPolicy{
		parse(t, `{name: no, access: {action: Deny}}`),
		parse(t, `{name: none, limit: {scope: Pod, rates: [{limit: 1, window: 24h}]}}`),
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				d := c.Check(t.Context(), Inbound, get())
				if d.Refused() && d.Rule != "no" && d.Rule != "none" {
					t.Errorf("got %+v", d)
				}
				_ = c.Counters()
			}
		})
	}
	for i := range 50 {
		if err := c.Apply(sets[i%2]); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	before := uint64(0)
	for _, n := range c.Counters() {
		before += n.Count
	}
	if before == 0 {
		t.Error("counters were lost with their rules")
	}
}

func TestKeysNeverCollide(t *testing.T) {
	c := newChecker(t, `{name: l, limit: {key: ['request.headers["a"]', 'request.headers["b"]'], rates: [{limit: 1, window: 1s}]}}`)
	key := func(a, b string) string {
		e := evaluation{checker: c, source: source{&Attributes{Header: func(name string) string {
			return map[string]string{"a": a, "b": b}[name]
		}}}}
		return e.key(c.current.Load()[Inbound].limits[0])
	}
	seen := map[string]string{}
	long := strings.Repeat("x", 300)
	for _, v := range [][2]string{
		{"a", "b"}, {"a|b", ""}, {"", "a|b"}, {`a\`, "b"}, {"a", `\b`}, {`a\|b`, "c"}, {"a", `b\|c`},
		{long, "1"}, {long, "2"}, {"\xff", ""}, {"\xfe", ""}, {lease.OverflowKey, ""}, {"#1", "2"},
	} {
		k := key(v[0], v[1])
		if other, taken := seen[k]; taken {
			t.Errorf("%q and %s share key %q", v, other, k)
		}
		seen[k] = fmt.Sprintf("%q", v)
		if len(k) > maxKeyBytes || strings.ToValidUTF8(k, "") != k || strings.HasPrefix(k, lease.OverflowKey) {
			t.Errorf("key %q of %q can't travel", k, v)
		}
	}
}

func TestErrorsAreLoggedOnceAMinute(t *testing.T) {
	var out strings.Builder
	now := time.Unix(1_700_000_000, 0)
	c := New(Options{Namespace: "shop", Service: "ratings", Clock: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err := c.Apply(parse(t, `{name: l, match: 'request.headers["nope"] == "1"', access: {action: Deny}}`)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c.Check(t.Context(), Inbound, get())
	}
	now = now.Add(time.Minute)
	c.Check(t.Context(), Inbound, get())
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "times=1 ") || !strings.Contains(got, "times=10 ") {
		t.Errorf("logged:\n%s", got)
	}
	if got := c.Counters(); len(got) != 1 || got[0] != (Counter{"shop/p", "l", "error", "local", 11}) {
		t.Errorf("counted %+v", got)
	}
}

func TestWithoutPoliciesNothingIsAllocated(t *testing.T) {
	c := New(Options{Namespace: "shop", Service: "ratings"})
	a := get()
	if n := testing.AllocsPerRun(100, func() { _ = c.Check(t.Context(), Inbound, a) }); n != 0 {
		t.Errorf("Check: %v allocs, want 0", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	big := `rates: [{limit: 9000000, window: 1s, burst: 1000000000}]`
	for _, bm := range []struct{ name, rules string }{
		{"no policy", ""},
		{"deny and allow", `{name: d, match: 'request.method == "DELETE"', access: {action: Deny}}, {name: a, match: 'source.workload == "web"', access: {action: Allow}}`},
		{"limit", `{name: l, limit: {scope: Pod, ` + big + `}}`},
		{"limit without headers", `{name: l, limit: {scope: Pod, ` + big + `}, response: {headers: None}}`},
		{"keyed limit", `{name: l, match: 'request.path.startsWith("/api/")', limit: {key: ['request.headers["x-user"]'], scope: Pod, ` + big + `}}`},
		{"refused", `{name: l, limit: {scope: Pod, rates: [{limit: 1, window: 24h}]}}`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			c := New(Options{Namespace: "shop", Service: "ratings"})
			if bm.rules != "" {
				if err := c.Apply(parse(b, bm.rules)); err != nil {
					b.Fatal(err)
				}
			}
			a := get()
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Check(b.Context(), Inbound, a)
			}
		})
	}
}
