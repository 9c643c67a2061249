package lease

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
)

// fed is a client with a link on which the test answers pulls by hand.
type fed struct {
	*Client
	link *Link
}

func newFed(t testing.TB) *fed {
	c := NewClient(ClientOptions{Sidecar: "a"})
	c.Configure(testPolicy(t, "{limit: 1000000, window: 1s}", "{onHubDown: Deny, holdTimeout: 1s}").AllBuckets())
	f := &fed{Client: c, link: c.NewLink()}
	f.link.Open()
	return f
}

// feed has the pocket pull, and answers with credits.
func (f *fed) feed(t testing.TB, credits uint32, ttl time.Duration) {
	t.Helper()
	_, held := f.Ask(limitName, "")
	req := f.link.Next()
	if held == nil || req == nil {
		t.Fatal("an empty pocket does not pull")
	}
	f.link.Answer(&policyv1.PullResponse{Sequence: req.GetSequence(), Grants: []*policyv1.Grant{{Limit: limitName, Credits: credits, TtlNanos: int64(ttl)}}})
	if got, decided := held.Retry(); !decided || !got.OK {
		t.Fatalf("after the answer: %+v, %v", got, decided)
	}
}

func TestEachCreditIsTakenOnce(t *testing.T) {
	f := newFed(t)
	const credits = 20_000
	f.feed(t, credits, time.Hour)
	// Returns, answers and pulls take back and lend anew all the while.
	stop := make(chan struct{})
	var meddling, taking sync.WaitGroup
	meddling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.link.Next()
				got, held := f.Ask(limitName, "")
				if held != nil {
					got = held.GiveUp()
				}
				f.Return(limitName, "", got)
			}
		}
	})
	var taken atomic.Int64
	for range 4 {
		taking.Go(func() {
			for range credits / 2 {
				got, held := f.Ask(limitName, "")
				if held != nil {
					got = held.GiveUp()
				}
				if got.OK {
					taken.Add(1)
				}
			}
		})
	}
	taking.Wait()
	close(stop)
	meddling.Wait()
	// One went to feed; one that was returned last may be left.
	if n := taken.Load(); n < credits-2 || n > credits-1 {
		t.Errorf("%d of %d credits taken", n, credits-1)
	}
}

func TestLentCreditsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFed(t)
		f.feed(t, 100, 300*time.Millisecond)
		take := func() bool {
			got, held := f.Ask(limitName, "")
			if held != nil {
				got = held.GiveUp()
			}
			return got.OK
		}
		time.Sleep(299 * time.Millisecond)
		synctest.Wait()
		if !take() {
			t.Error("refused before the credits end")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if take() {
			t.Error("a credit was taken after its end")
		}
	})
}

func TestTakingACreditDoesNotAllocate(t *testing.T) {
	f := newFed(t)
	f.feed(t, math.MaxUint32, time.Hour)
	limit, ctx := f.Limit(limitName), t.Context()
	if n := testing.AllocsPerRun(1000, func() { limit.Take(ctx, "") }); n != 0 {
		t.Errorf("Take: %v allocs, want 0", n)
	}
}
