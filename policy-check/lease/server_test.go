package lease

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
)

// hub is a server on a clock that the test moves.
type hub struct {
	*Server
	now      time.Time
	sequence map[string]uint64
}

func newHub(p *policy.TrafficPolicy) *hub {
	h := &hub{now: time.Unix(1_700_000_000, 0), sequence: make(map[string]uint64)}
	h.Server = NewServer(ServerOptions{Clock: func() time.Time { return h.now }})
	h.SetPolicies([]*policy.TrafficPolicy{p})
	return h
}

// fataler is what testing's and rapid's T share.
type fataler interface {
	Fatalf(format string, args ...any)
}

// pull sends one demand in the sidecar's next sequence.
func (h *hub) pull(t fataler, sidecar string, d *policyv1.Demand) *policyv1.Grant {
	h.sequence[sidecar]++
	resp, err := h.Answer(&policyv1.PullRequest{Sidecar: sidecar, Epoch: 1, Sequence: h.sequence[sidecar], Demands: []*policyv1.Demand{d}})
	if err != nil || len(resp.GetGrants()) != 1 {
		t.Fatalf("pull: %v, %v", resp, err)
	}
	return resp.GetGrants()[0]
}

// TestNeverIssuesMoreThanTheBound drives the hub with arbitrary pulls of several
// sidecars that spend arbitrarily, and checks every window: issued at most
// L·W + B + L·h, and outstanding never above L·h + N.
func TestNeverIssuesMoreThanTheBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 3000).Draw(rt, "limit")
		burst := rapid.IntRange(1, 300).Draw(rt, "burst")
		p := testPolicy(t, fmt.Sprintf("{limit: %d, window: 1s, burst: %d}", limit, burst), "")
		h := newHub(p)
		sidecars := rapid.IntRange(1, 5).Draw(rt, "sidecars")
		left := make([]int64, sidecars)
		expires := make([]time.Time, sidecars)
		type grant struct {
			at time.Time
			n  int64
		}
		var grants []grant
		bound := int64(math.Ceil(float64(limit)/10)) + int64(sidecars)
		for range rapid.IntRange(1, 60).Draw(rt, "pulls") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(rt, "µs")) * time.Microsecond)
			i := rapid.IntRange(0, sidecars-1).Draw(rt, "sidecar")
			for j := range left {
				if !h.now.Before(expires[j]) {
					left[j] = 0
				}
			}
			spent := rapid.Int64Range(0, left[i]).Draw(rt, "spent")
			left[i] -= spent
			g := h.pull(rt, fmt.Sprint(i), &policyv1.Demand{
				Limit: limitName, Want: uint32(rapid.IntRange(0, 500).Draw(rt, "want")),
				Admitted: uint64(spent), Refused: uint64(rapid.IntRange(0, 100).Draw(rt, "refused")), Left: uint32(left[i]),
			})
			if n := int64(g.GetCredits()); n > 0 {
				left[i] += n
				expires[i] = h.now.Add(time.Duration(g.GetTtlNanos()))
				grants = append(grants, grant{h.now, n})
			}
			outstanding := int64(0)
			for _, n := range left {
				outstanding += n
			}
			if outstanding > bound {
				rt.Fatalf("%d credits outstanding, bound %d", outstanding, bound)
			}
		}
		for i := range grants {
			sum := int64(0)
			for _, g := range grants[i:] {
				sum += g.n
				if most := float64(limit)*(g.at.Sub(grants[i].at)+DefaultHorizon).Seconds() + float64(burst); float64(sum) > most+0.01 {
					rt.Fatalf("%d issued within %v, bound %v", sum, g.at.Sub(grants[i].at), most)
				}
			}
		}
	})
}

func TestResendIsAnsweredAsBefore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHub(testPolicy(t, "{limit: 100, window: 1s, burst: 20}", ""))
		var sent []*policyv1.PullRequest
		var answers []*policyv1.PullResponse
		granted := uint64(0)
		for i := range rapid.IntRange(1, 40).Draw(rt, "pulls") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 50).Draw(rt, "ms")) * time.Millisecond)
			if len(sent) > 0 && rapid.Bool().Draw(rt, "resend") {
				k := rapid.IntRange(0, len(sent)-1).Draw(rt, "which")
				again, err := h.Answer(sent[k])
				if err != nil {
					rt.Fatal(err)
				}
				if diff := cmp.Diff(answers[k], again, protocmp.Transform()); diff != "" {
					rt.Fatal(diff)
				}
				continue
			}
			req := &policyv1.PullRequest{Sidecar: "a", Epoch: 1, Sequence: uint64(i + 1),
				Demands: []*policyv1.Demand{{Limit: limitName, Want: uint32(rapid.IntRange(1, 10).Draw(rt, "want"))}}}
			resp, err := h.Answer(req)
			if err != nil {
				rt.Fatal(err)
			}
			sent, answers = append(sent, req), append(answers, resp)
			granted += uint64(resp.GetGrants()[0].GetCredits())
		}
		if got := h.Stats().Limits[0].Granted; got != granted {
			rt.Fatalf("granted %d, first answers sum to %d", got, granted)
		}
	})
}

func TestOldSequencesAndEpochs(t *testing.T) {
	h := newHub(testPolicy(t, "{limit: 1000, window: 1s, burst: 500}", ""))
	d := &policyv1.Demand{Limit: limitName, Want: 1}
	for range 2 * remembered {
		h.now = h.now.Add(time.Millisecond)
		h.pull(t, "a", d)
	}
	resp, err := h.Answer(&policyv1.PullRequest{Sidecar: "a", Epoch: 1, Sequence: 3, Demands: []*policyv1.Demand{d}})
	if err != nil || len(resp.GetGrants()) != 0 {
		t.Errorf("forgotten sequence: %v, %v", resp, err)
	}
	// Of a stream that was given up: what it says was true before the others.
	h.sequence["a"] += 5
	h.now = h.now.Add(time.Second)
	h.pull(t, "a", d)
	resp, err = h.Answer(&policyv1.PullRequest{Sidecar: "a", Epoch: 1, Sequence: h.sequence["a"] - 3, Demands: []*policyv1.Demand{d}})
	if err != nil || len(resp.GetGrants()) != 0 {
		t.Errorf("overtaken sequence: %v, %v", resp, err)
	}
	if _, err := h.Answer(&policyv1.PullRequest{Sidecar: "a", Epoch: 2, Sequence: 1, Demands: []*policyv1.Demand{d}}); err != nil {
		t.Errorf("new epoch: %v", err)
	}
	if _, err := h.Answer(&policyv1.PullRequest{Sidecar: "a", Epoch: 1, Sequence: 500}); err == nil {
		t.Error("old epoch: no error")
	}
	h.now = h.now.Add(2 * time.Minute)
	if _, err := h.Answer(&policyv1.PullRequest{Sidecar: "a", Epoch: 1, Sequence: 501}); err != nil {
		t.Errorf("old epoch after a long silence: %v", err)
	}
	if _, err := h.Answer(&policyv1.PullRequest{}); err == nil {
		t.Error("no name: no error")
	}
}

// TestFairLevelIsMaxMin: nobody gets more than asked for, nothing is left while
// somebody wants more, and who gets less than asked for gets the level, which is
// the most that anybody gets.
func TestFairLevelIsMaxMin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		demands := rapid.SliceOfN(rapid.Float64Range(0, 1000), 1, 50).Draw(rt, "demands")
		capacity := rapid.Float64Range(1, 20000).Draw(rt, "capacity")
		total := 0.0
		for _, d := range demands {
			total += d
		}
		level := fairLevel(demands, capacity)
		if total <= capacity {
			if !math.IsInf(level, 1) && level < demands[len(demands)-1]-1e-6 {
				rt.Fatalf("level %v below demand %v, though capacity suffices", level, demands)
			}
			return
		}
		served := 0.0
		for _, d := range demands {
			served += math.Min(d, level)
		}
		if math.Abs(served-capacity) > 1e-6*capacity {
			rt.Fatalf("served %v of %v at level %v", served, capacity, level)
		}
	})
}

func TestKeysAreBoundedAndIdleOnesForgotten(t *testing.T) {
	for overflow, want := range map[string]string{
		"SharedBucket": "1 0 0", // the shared bucket holds one token
		"Allow":        "1 1 1",
		"Deny":         "0 0 0",
	} {
		t.Run(overflow, func(t *testing.T) {
			ps, problems := policy.Parse("p.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ratings}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - name: limit
    limit: {key: [source.workload], rates: [{limit: 1, window: 1s}], maxKeys: 100, overflow: %s}
`, overflow))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			h := newHub(ps[0])
			for i := range 100 {
				h.pull(t, "a", &policyv1.Demand{Limit: limitName, Key: fmt.Sprint(i), Want: 1})
			}
			got := ""
			for i := range 3 {
				g := h.pull(t, "a", &policyv1.Demand{Limit: limitName, Key: fmt.Sprint("new-", i), Want: 1})
				got += fmt.Sprint(" ", g.GetCredits())
				if g.GetCredits() == 0 && g.GetRetryAfterNanos() == 0 {
					t.Error("refused without a time to retry")
				}
			}
			if got != " "+want {
				t.Errorf("beyond maxKeys: granted%s, want %s", got, want)
			}
			s := h.Stats().Limits[0]
			if s.Overflowed != 3 || s.Keys > 101 {
				t.Errorf("stats: %+v", s)
			}
			h.now = h.now.Add(time.Minute)
			for i := range 30 {
				h.pull(t, "a", &policyv1.Demand{Limit: limitName, Key: fmt.Sprint("later-", i), Want: 1})
			}
			if s := h.Stats().Limits[0]; s.Overflowed != 3 || s.Keys > 100 {
				t.Errorf("stats after a minute: %+v", s)
			}
		})
	}
}

func TestPoliciesAreReplaced(t *testing.T) {
	p := testPolicy(t, "{limit: 10, window: 1s, burst: 5}", "")
	h := newHub(p)
	d := &policyv1.Demand{Limit: limitName, Want: 3}
	if g := h.pull(t, "a", d); g.GetCredits() != 2 { // the cap: L·h + N
		t.Errorf("granted %d, want 2", g.GetCredits())
	}
	h.SetPolicies([]*policy.TrafficPolicy{testPolicy(t, "{limit: 10, window: 1s, burst: 5}", "")})
	if s := h.Stats().Limits[0]; s.Granted != 2 {
		t.Errorf("an equal limit lost its state: %+v", s)
	}
	h.SetPolicies(nil)
	if g := h.pull(t, "a", d); !g.GetUnknownLimit() {
		t.Errorf("removed limit: %v", g)
	}
}

// TestWaitingDemandLosesNothingToALatePull: tokens that come back while a
// refused sidecar stays away a little longer than the burst are not lost, and a
// key that nobody waits for has no more than its burst.
func TestWaitingDemandLosesNothingToALatePull(t *testing.T) {
	h := newHub(testPolicy(t, "{limit: 50, window: 1s, burst: 2}", ""))
	pull := func(after time.Duration, want uint32) uint32 {
		h.now = h.now.Add(after)
		return h.pull(t, "a", &policyv1.Demand{Limit: limitName, Want: want, Refused: 10}).GetCredits()
	}
	if got := pull(time.Second, 5); got != 2 {
		t.Errorf("a fresh key gave %d, want its burst of 2", got)
	}
	if got := pull(100*time.Millisecond, 5); got != 5 {
		t.Errorf("demand that waited 100 ms got %d, want 5", got)
	}
	if got := pull(time.Minute, 5); got != 2 {
		t.Errorf("after a minute: got %d, want the burst of 2", got)
	}
}

// TestIdleKeysKeepTheirDebt: a key that nobody asks for is only a number at the
// hub, from which it goes on where it was; with a full bucket it is nothing.
func TestIdleKeysKeepTheirDebt(t *testing.T) {
	h := newHub(testPolicy(t, "{limit: 6, window: 1m, burst: 3}", ""))
	l := (*h.limits.Load())[limitName]
	pull := func(after time.Duration, key string, want uint32) uint32 {
		h.now = h.now.Add(after)
		return h.pull(t, "a", &policyv1.Demand{Limit: limitName, Key: key, Want: want}).GetCredits()
	}
	spend := func(key string, n int) {
		for range n {
			if got := pull(time.Second, key, 1); got != 1 {
				t.Fatalf("%s: a full bucket gave %d", key, got)
			}
		}
	}
	spend("u", 3)
	h.now = h.now.Add(6 * time.Second) // a token takes 10 s
	for range 200 {
		pull(0, "other", 0)
	}
	if _, active := l.keys["u"]; active || len(l.idle) == 0 {
		t.Fatalf("%d keys and %d idle ones after 6 s, want u idle", len(l.keys), len(l.idle))
	}
	if got := pull(0, "u", 2); got != 0 {
		t.Errorf("before its first token is back: %d granted", got)
	}
	if got := pull(4*time.Second, "u", 2); got != 1 {
		t.Errorf("after 10 s: granted %d, want 1", got)
	}
	h.now = h.now.Add(5 * time.Minute)
	for i := range 200 {
		pull(0, fmt.Sprint("later-", i%2), 0)
	}
	if s := h.Stats().Limits[0]; s.Keys > 4 {
		t.Errorf("%d keys after 5 minutes", s.Keys)
	}
	spend("u", 3)
}

// TestASharedKeyCountsAllPockets: a sidecar has a pocket for each of the keys
// that share a bucket, and a report about one says nothing of the others.
func TestASharedKeyCountsAllPockets(t *testing.T) {
	b := testPolicy(t, "{limit: 100, window: 1s, burst: 50}", "").AllBuckets()[0]
	b.MaxKeys = 1
	l := newLimit(b, DefaultHorizon)
	got := uint32(0)
	for i := range 10 {
		got += l.grant(1e9, 1, &policyv1.Demand{Key: fmt.Sprint("u", i), Want: 20}).GetCredits()
	}
	// The first key is its own; the cap is 100/s for 100 ms and one.
	if got != 2*11 {
		t.Errorf("%d credits outstanding of two buckets, want 22", got)
	}
}
