package cluster

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestWhatIsRetried(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome exchange.Outcome
		want    bool
	}{
		{"connect failure", exchange.Outcome{Failure: exchange.ConnectFailure}, true},
		{"refused stream", exchange.Outcome{Failure: exchange.Refused}, true},
		{"reset", exchange.Outcome{Failure: exchange.Reset}, false},
		{"reset before the request", exchange.Outcome{Failure: exchange.Reset, Unsent: true}, true},
		{"timeout", exchange.Outcome{Failure: exchange.Timeout}, false},
		{"the downstream left", exchange.Outcome{Failure: exchange.Local, Unsent: true}, false},
		{"503", exchange.Outcome{Status: 503}, false},
		{"200", exchange.Outcome{Status: 200}, false},
		{"gRPC ok", exchange.Outcome{Status: 200, GRPC: 1}, false},
		{"gRPC cancelled", exchange.Outcome{Status: 200, GRPC: 2}, true},
		{"gRPC unavailable", exchange.Outcome{Status: 200, GRPC: 15}, true},
		{"gRPC internal", exchange.Outcome{Status: 200, GRPC: 14}, false},
	} {
		c := New("a", "b", "c", Settings{})
		if got := c.AllowRetry(tc.outcome, 1); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	c := New("a", "b", "c", Settings{})
	refused := exchange.Outcome{Failure: exchange.ConnectFailure}
	if !c.AllowRetry(refused, 2) || c.AllowRetry(refused, 3) {
		t.Error("want two retries and no third")
	}
	c = New("a", "b", "c", Settings{Retry: &Retry{Attempts: 1, On: ServerError}})
	if !c.AllowRetry(exchange.Outcome{Status: 500}, 1) || c.AllowRetry(exchange.Outcome{Status: 409}, 1) {
		t.Error("a policy of its own is not kept")
	}
	c = New("a", "b", "c", Settings{Retry: &Retry{}})
	if c.AllowRetry(refused, 1) {
		t.Error("retried though the policy has no attempts")
	}
}

func TestMaxRetries(t *testing.T) {
	r := newRig(t, Settings{Pool: Pool{MaxRetries: 1}}, 2)
	refused := exchange.Outcome{Failure: exchange.ConnectFailure}
	if !r.AllowRetry(refused, 1) || r.AllowRetry(refused, 1) {
		t.Error("want one retry at a time")
	}
	r.pick(Key{Attempt: 1}).Done(fine)
	if !r.AllowRetry(refused, 1) {
		t.Error("the place was not given back")
	}
	r.AbandonRetry()
	if r.retries.Used() != 0 {
		t.Errorf("%d places are held", r.retries.Used())
	}
}

func TestRetryPicksAnotherOrGivesUp(t *testing.T) {
	r := newRig(t, Settings{}, 3)
	refused := exchange.Outcome{Failure: exchange.ConnectFailure}
	k := Key{}
	e := r.pick(k)
	for attempt := range 2 {
		next, ok := e.Retry(refused, k)
		if !ok || next.Address == e.Address {
			t.Fatalf("retry %d: %v, %v", attempt+1, next, ok)
		}
		e.Done(refused)
		e, k.Attempt = next, k.Attempt+1
	}
	if _, ok := e.Retry(refused, k); ok {
		t.Error("a third retry")
	}
	e.Done(fine)

	r = newRig(t, Settings{Pool: Pool{MaxRequests: 1}}, 3)
	e = r.pick(Key{})
	if _, ok := e.Retry(refused, Key{}); ok {
		t.Error("a retry beyond the limit of requests")
	}
	e.Done(refused)
	if r.retries.Used() != 0 || r.requests.Used() != 0 {
		t.Errorf("%d retries and %d requests are held", r.retries.Used(), r.requests.Used())
	}
}

func TestBudgetHasAFloorAndAShare(t *testing.T) {
	var b budget
	second := int64(time.Second)
	count := func(now int64) int {
		n := 0
		for b.retry(now) {
			n++
		}
		return n
	}
	if got := count(0); got != 100 {
		t.Errorf("%d retries without a request, want 100", got)
	}
	for range 1000 {
		b.request(5 * second)
	}
	if got := count(5 * second); got != 200 {
		t.Errorf("%d more retries after 1000 requests, want 200", got)
	}
	// The first second has left the window, its 100 retries with it.
	if got := count(10 * second); got != 100 {
		t.Errorf("%d retries in the next window, want 100", got)
	}
	if got := count(1e6 * second); got != 100 {
		t.Errorf("%d retries long after, want 100", got)
	}
}

// When a retry is made, the ten seconds before it hold no more than their budget.
func TestBudgetIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b budget
		var requests, retries [200]int
		at := 0
		for at < len(requests) {
			requests[at] = rapid.IntRange(0, 300).Draw(rt, "requests")
			for range requests[at] {
				b.request(int64(at) * int64(time.Second))
			}
			for range rapid.IntRange(0, 200).Draw(rt, "wanted") {
				if b.retry(int64(at) * int64(time.Second)) {
					retries[at]++
				}
			}
			at += rapid.IntRange(1, 15).Draw(rt, "pause")
		}
		for end := budgetSeconds; end <= len(requests); end++ {
			if retries[end-1] == 0 {
				continue // nothing was decided; only requests left the window
			}
			sent, again := 0, 0
			for i := end - budgetSeconds; i < end; i++ {
				sent, again = sent+requests[i], again+retries[i]
			}
			if again > sent/budgetShare+budgetFloor*budgetSeconds {
				rt.Fatalf("%d retries and %d requests in the ten seconds before %d", again, sent, end)
			}
		}
	})
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	c := New("a", "b", "c", Settings{})
	for attempt, most := range map[int]time.Duration{0: 25e6, 1: 25e6, 2: 75e6, 3: 175e6, 4: 250e6, 50: 250e6} {
		c.random = func() uint64 { return 1<<64 - 1 }
		if got := c.Backoff(attempt); got >= most || got < most-time.Microsecond {
			t.Errorf("attempt %d: at most %s, want just below %s", attempt, got, most)
		}
		c.random = func() uint64 { return 0 }
		if got := c.Backoff(attempt); got != 0 {
			t.Errorf("attempt %d: at least %s, want 0", attempt, got)
		}
	}
}
