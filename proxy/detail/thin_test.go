package detail

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// stream keeps requests of random traces, so far apart, and returns their IDs.
type stream struct {
	d      *Details
	now    time.Time
	random *rand.Rand
}

func newStream() *stream {
	s := &stream{now: time.Unix(1000, 0), random: rand.New(rand.NewPCG(1, 2))}
	s.d = New(Options{Bytes: MinBytes, Now: func() time.Time { return s.now }})
	return s
}

func (s *stream) keep(n int, apart time.Duration) (traces [][16]byte) {
	for range n {
		x := request(s.random.IntN(3))
		for i := range x.Record.TraceID {
			x.Record.TraceID[i] = byte(s.random.Uint32())
		}
		s.now = s.now.Add(apart)
		x.Record.Start, x.Record.Duration = s.now, 0
		s.d.Keep(x, "", nil)
		traces = append(traces, x.Record.TraceID)
	}
	return traces
}

func (s *stream) has(trace [16]byte) bool {
	w := []want{{trace: trace}}
	s.d.ring.search(w)
	return len(w[0].found) > 0
}

func TestTheRingReachesBackFarEnoughAtAnyRate(t *testing.T) {
	for _, apart := range []time.Duration{100 * time.Microsecond, 40 * time.Microsecond, 10 * time.Microsecond} {
		s := newStream()
		s.keep(int(3*time.Second/2/apart), apart)
		if h := s.d.Horizon(); h < shortest {
			t.Errorf("a request each %v: the ring reaches back %v, one trace in %d is kept", apart, h, s.d.KeptOneOf())
		}
		recent := s.keep(int(shortest/2/apart), apart)
		found := 0
		for _, trace := range recent {
			keeps := s.d.ring.keeps(&trace)
			if keeps {
				found++
			}
			if found%50 == 1 && keeps != s.has(trace) {
				t.Fatalf("a request each %v: trace %x is kept: %v", apart, trace, !keeps)
			}
		}
		if want := len(recent) / int(s.d.KeptOneOf()); found < want*3/4 || found > want*4/3 {
			t.Errorf("a request each %v: %d of %d traces are kept, want about one in %d", apart, found, len(recent), s.d.KeptOneOf())
		}
	}
}

func TestAllRequestsAreKeptOnceFewerCome(t *testing.T) {
	s := newStream()
	s.keep(100_000, 5*time.Microsecond)
	if n := s.d.KeptOneOf(); n < 4 {
		t.Fatalf("one trace in %d is kept", n)
	}
	s.keep(1000, 5*time.Millisecond) // a shard may be told late
	for _, trace := range s.keep(100, 5*time.Millisecond) {
		if !s.has(trace) {
			t.Fatalf("trace %x is not kept, one in %d is", trace, s.d.KeptOneOf())
		}
	}
}

func TestSidecarsKeepTheSameTraces(t *testing.T) {
	var few, many ring
	few.thinned.Store(5)
	many.thinned.Store(3)
	n := 0
	for i := range uint64(10_000) {
		trace := [16]byte{15: byte(i), 14: byte(i >> 8)} // of a caller who counts
		if few.keeps(&trace) {
			n++
			if !many.keeps(&trace) {
				t.Fatalf("trace %x is kept where fewer are, and not where more are", trace)
			}
		}
	}
	if n < 10_000/32*3/4 || n > 10_000/32*4/3 {
		t.Errorf("%d of 10000 traces are kept, want one in 32", n)
	}
}

func TestWhatFailedIsSentOfAnyTrace(t *testing.T) {
	d := New(Options{Bytes: MinBytes})
	d.ring.thinned.Store(mostThinned)
	x := &exchange.Exchange{}
	x.Record.TraceID = [16]byte{15: 1}
	if d.ring.keeps(&x.Record.TraceID) {
		t.Fatal("the trace is one of those that are kept anyway")
	}
	d.Keep(x, "", nil)
	d.Keep(x, vocab.TriggerError, new(Share))
	if details, _, _ := d.Take(); len(details) != 1 {
		t.Errorf("%d details, want that of the failure", len(details))
	}
}
