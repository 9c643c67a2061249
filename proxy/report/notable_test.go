package report

import (
	"fmt"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestNotableIsWhatPeopleLookFor(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*record.Record)
		want   bool
	}{
		"an ordinary request":  {func(*record.Record) {}, false},
		"not found":            {func(r *record.Record) { r.Code = 404 }, false},
		"no verdict":           {func(r *record.Record) { r.Verdict = "" }, false},
		"gRPC without error":   {func(r *record.Record) { r.GRPCStatus = 1 }, false},
		"a TCP connection":     {func(r *record.Record) { r.Protocol, r.Code = vocab.ProtocolTCP, 0 }, false},
		"a server's error":     {func(r *record.Record) { r.Code = 500 }, true},
		"no answer":            {func(r *record.Record) { r.Code = 0 }, true},
		"gRPC with an error":   {func(r *record.Record) { r.GRPCStatus = 2 }, true},
		"slow":                 {func(r *record.Record) { r.Duration = time.Second }, true},
		"tried again":          {func(r *record.Record) { r.Attempts = 2 }, true},
		"flagged":              {func(r *record.Record) { r.Flags = vocab.FlagUpstreamTimeout }, true},
		"denied":               {func(r *record.Record) { r.Code, r.Verdict = 403, vocab.VerdictDenied }, true},
		"would be denied":      {func(r *record.Record) { r.Verdict = vocab.VerdictShadowDenied }, true},
		"a TCP reset upstream": {func(r *record.Record) { r.Protocol, r.Code, r.Flags = vocab.ProtocolTCP, 0, vocab.FlagUpstreamReset }, true},
	} {
		x := request(200, "/")
		c.change(&x.Record)
		s := NewStore()
		s.Observe(x)
		s.ring.flush()
		if b, _ := s.ring.take(); b.notable != 0 != c.want {
			t.Errorf("%s: notable = %v", name, b.notable != 0)
		}
	}
}

// left is what the ring still has, by response code, on as many shards as it had.
func left(t *testing.T, s *Store) (byCode map[uint32]map[string]bool, records int) {
	t.Helper()
	byCode = map[uint32]map[string]bool{}
	s.ring.flush()
	for b, _ := s.ring.take(); b != nil; b, _ = s.ring.take() {
		for _, r := range decode(t, b) {
			if byCode[r.Code] == nil {
				byCode[r.Code] = map[string]bool{}
			}
			byCode[r.Code][r.Path] = true
			records++
		}
		s.ring.giveBack(b)
	}
	return byCode, records
}

func TestAFullRingForgetsOrdinaryRequestsBeforeFailedOnes(t *testing.T) {
	for _, used := range []int{1, shards} {
		t.Run(fmt.Sprint("shards used: ", used), func(t *testing.T) {
			s := NewStore()
			const total, every = 4 * ringRecords, 50 // one in 50 fails, from the first on
			failed := 0
			for i := range total {
				x := request(200, fmt.Sprint("/", i))
				if i%every == 0 {
					x = request(503, fmt.Sprint("/", i))
					failed++
				}
				x.Shard = uint8(i / 7 % used)
				s.Observe(x)
			}
			dropped := s.Dropped()
			got, kept := left(t, s)
			if len(got[503]) != failed || dropped[reasonRingFullNotable] != 0 {
				t.Errorf("%d of %d failed requests are there, and %d counted as dropped", len(got[503]), failed, dropped[reasonRingFullNotable])
			}
			if uint64(kept)+dropped[reasonRingFull] != total || dropped[reasonRingFull] == 0 {
				t.Errorf("%d kept and %d dropped of %d", kept, dropped[reasonRingFull], total)
			}
			if !got[200][fmt.Sprint("/", total-1)] {
				t.Error("the newest ordinary request is gone")
			}
			if _, rows := s.Snapshot(); len(rows) != 2 || rows[0].GetRequests()+rows[1].GetRequests() != total {
				t.Error("the counts are not exact")
			}
		})
	}
}

func TestAFullRingOfFailedRequestsForgetsTheOldestAndCountsThemApart(t *testing.T) {
	s := NewStore()
	const total = 3 * ringRecords
	for i := range total {
		s.Observe(request(503, fmt.Sprint("/", i)))
	}
	dropped := s.Dropped()
	got, kept := left(t, s)
	if n := dropped[reasonRingFullNotable]; n == 0 || uint64(kept)+n != total || dropped[reasonRingFull] != 0 {
		t.Errorf("%d kept of %d, dropped %v", kept, total, dropped)
	}
	for i := total - ringRecords; i < total; i++ {
		if !got[503][fmt.Sprint("/", i)] {
			t.Fatalf("request %d is gone, although newer than what the ring lasts", i)
		}
	}
}

func TestNotableRequestsGoWithTheOthersWhileTheSenderKeepsUp(t *testing.T) {
	s := NewStore()
	for i := range 4 * blockRecords {
		s.Observe(request(200+uint32(i%2)*300, fmt.Sprint("/", i)))
		if b, _ := s.ring.take(); b != nil {
			if b.Rows() != blockRecords || b.notable != blockRecords/2 {
				t.Errorf("a block has %d records, %d of them notable", b.Rows(), b.notable)
			}
			s.ring.giveBack(b)
		}
	}
	if s.ring.apart.Load() {
		t.Error("notable requests go apart")
	}
}

func TestObserveDoesNotAllocateWhenTheRingIsFull(t *testing.T) {
	s := NewStore()
	ordinary, failed := request(200, "/reviews/1?a=b"), request(503, "/reviews/1?a=b")
	both := func() {
		for i := range 100 {
			x := ordinary
			if i%2 == 0 {
				x = failed
			}
			s.Observe(x)
		}
	}
	for range 4 * ringRecords / 100 { // until notable ones are dropped as well
		both()
	}
	if s.Dropped()[reasonRingFullNotable] == 0 {
		t.Fatal("nothing notable is dropped yet")
	}
	if n := testing.AllocsPerRun(100, both); n != 0 {
		t.Errorf("%v allocations to observe 100 requests, want 0", n)
	}
}

func BenchmarkObserveFailedAmongOthers(b *testing.B) {
	s := NewStore()
	xs := [2]*exchange.Exchange{request(200, "/reviews/1"), request(503, "/reviews/1")}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Observe(xs[min(i%100, 1)^1])
	}
}
