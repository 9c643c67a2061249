package report

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// observe n requests with paths of their own.
func (s *site) observe(code uint32, from, n int) {
	for i := range n {
		s.store.Observe(request(code, fmt.Sprint("/", from+i)))
	}
}

// exactly fails unless every path from 0 to n came once but those left out.
func (s *site) exactly(n int, without map[string]bool) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		p, want := fmt.Sprint("/", i), 1
		if without[p] {
			want = 0
		}
		if s.paths[p] != want {
			s.t.Fatalf("record %s came %d times, want %d", p, s.paths[p], want)
		}
	}
}

func TestEverythingArrivesOnceAndRunFlushes(t *testing.T) {
	s := start(t, newFakeHub(t, nil), NewStore())
	s.observe(200, 0, 10_000)
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(10_000, nil)
	if s.rows["200"] != 10_000 {
		t.Errorf("requests = %d, want 10000", s.rows["200"])
	}
}

func TestAHubThatDiesLosesAndDoublesNothing(t *testing.T) {
	seen := map[uint64]int{}
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction {
		seen[b.GetSequence()]++
		first := seen[b.GetSequence()] == 1
		switch {
		case first && b.GetSequence()%3 == 1:
			return reaction{die: true} // before it is durable
		case first && b.GetSequence()%3 == 2:
			return reaction{lost: true} // durable, but the sender does not learn of it
		}
		return reaction{}
	})
	s := start(t, h, NewStore())
	for i := range 3 {
		s.observe(200, 1000*i, 1000)
		s.until("the records", func() bool { return len(s.paths) == 1000*(i+1) })
	}
	s.until("an end without deaths", func() bool { return s.sequence%3 == 0 })
	if err := s.stop(); err != nil {
		t.Logf("Run: %v", err) // the last stream may have died as well
	}
	s.exactly(3000, nil)
	if s.rows["200"] != 3000 {
		t.Errorf("requests = %d, want 3000", s.rows["200"])
	}
}

func TestALateAcknowledgementHoldsTheFlushAndNothingElse(t *testing.T) {
	var held []uint64
	release := false
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction {
		held = append(held, b.GetSequence())
		return reaction{hold: !release}
	})
	s := start(t, h, NewStore())
	s.observe(200, 0, 100)
	s.until("the records", func() bool { return len(s.paths) == 100 })
	s.mu.Lock()
	release = true
	s.mu.Unlock()
	s.observe(200, 100, 100)
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(200, nil)
	if s.streams != 1 || len(held) != int(s.sequence) {
		t.Errorf("%d streams carried %d batches up to %d, want one stream and no resend", s.streams, len(held), s.sequence)
	}
}

func TestARefusedBatchIsGivenUpAndItsCountsComeAgain(t *testing.T) {
	refused := map[string]bool{}
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction { return reaction{refuse: b.GetSequence() == 1} })
	store := NewStore()
	for i := range 50 {
		store.Observe(request(404, fmt.Sprint("/", i)))
		refused[fmt.Sprint("/", i)] = true
	}
	s := start(t, h, store)
	// The series of the refused batch never changes again.
	s.until("the refused counts", func() bool { return s.rows["404"] == 50 })
	s.until("the count of the loss", func() bool { return s.dropped[reasonRefused] == 50 })
	s.observe(200, 50, 50)
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(100, refused)
	if got := store.Dropped()[reasonRefused]; got != 50 {
		t.Errorf("dropped = %d, want 50", got)
	}
}

func TestARefusalIsHeardAmongManyUnsentBatches(t *testing.T) {
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction { return reaction{refuse: b.GetSequence() == 2} })
	store := NewStore()
	for i := range ringRecords {
		store.Observe(request(200, fmt.Sprint("/", i)))
	}
	s := start(t, h, store)
	s.until("what is behind the refused batch", func() bool { return len(s.paths) == ringRecords-blockRecords })
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if s.rows["200"] != ringRecords {
		t.Errorf("requests = %d, want %d", s.rows["200"], ringRecords)
	}
}

func TestResyncTellsEverySeriesOnceMore(t *testing.T) {
	asked := false
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction {
		ask := !asked && b.GetRecordCount() > 0
		asked = asked || ask
		return reaction{resync: ask}
	})
	s := start(t, h, NewStore())
	s.observe(200, 0, 5)
	s.until("the counts", func() bool { return s.rows["200"] == 5 })
	s.mu.Lock()
	delete(s.rows, "200") // as a hub that lost its disk
	s.mu.Unlock()
	s.until("the counts once more", func() bool { return s.rows["200"] == 5 })
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(5, nil)
}

func TestAnAcknowledgementOfANewerHubIsTaken(t *testing.T) {
	s := start(t, newFakeHub(t, func(*telemetryv1.Batch) reaction { return reaction{newer: true} }), NewStore())
	s.observe(200, 0, 100)
	if err := s.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(100, nil)
	if s.streams != 1 || len(s.sender.unacked) != 0 {
		t.Errorf("%d streams, %d batches still wait", s.streams, len(s.sender.unacked))
	}
}

func TestWhatWaitsForAnAcknowledgementIsBounded(t *testing.T) {
	sender, err := NewSender(SenderOptions{Store: NewStore(), Gauges: fakeGauges{}, Sender: "a", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxUnackedBatches {
		sender.o.Store.Observe(request(200, fmt.Sprint("/", i)))
		sender.cut(true)
	}
	if len(sender.unacked) != maxUnackedBatches {
		t.Errorf("%d batches wait, want %d", len(sender.unacked), maxUnackedBatches)
	}
	if got := int(sender.o.Store.QueueRatio()*ringRecords + 0.5); got != maxUnackedBatches {
		t.Errorf("%d records wait in the ring, want %d", got, maxUnackedBatches)
	}
	size := 0
	for _, b := range sender.unacked {
		size += proto.Size(b)
	}
	if sender.unackedBytes != size {
		t.Errorf("unackedBytes = %d, want %d", sender.unackedBytes, size)
	}
	sender.acknowledge(&telemetryv1.Ack{Epoch: 2, Sequence: 1 << 40})
	if len(sender.unacked) != maxUnackedBatches {
		t.Error("an acknowledgement of another epoch counts")
	}
	sender.acknowledge(&telemetryv1.Ack{Epoch: 1, Sequence: 1 << 40})
	if len(sender.unacked) != 0 || sender.unackedBytes != 0 {
		t.Errorf("%d batches with %d bytes wait after everything is acknowledged", len(sender.unacked), sender.unackedBytes)
	}
}

func TestRunEndsWithoutAHub(t *testing.T) {
	h := newFakeHub(t, func(*telemetryv1.Batch) reaction { return reaction{die: true} })
	s := start(t, h, NewStore())
	s.observe(200, 0, 10)
	s.until("two attempts", func() bool { return s.streams >= 2 })
	if err := s.stop(); err == nil {
		t.Error("Run says nothing of what could not be flushed")
	}
}

// A hub that is away when a process ends that nobody waits for gets the counts
// when it is back.
func TestRunInsistsWhereItIsTold(t *testing.T) {
	var up atomic.Bool
	h := newFakeHub(t, func(*telemetryv1.Batch) reaction { return reaction{die: !up.Load()} })
	s := start(t, h, NewStore())
	s.sender.Insist(patience)
	s.observe(200, 0, 10)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	s.until("two attempts more", func() bool { return s.streams >= 4 })
	up.Store(true)
	if err := <-stopped; err != nil {
		t.Fatalf("Run: %v", err)
	}
	s.exactly(10, nil)
}

func TestRunStopsInsisting(t *testing.T) {
	h := newFakeHub(t, func(*telemetryv1.Batch) reaction { return reaction{hold: true} }) // never says a word
	s := startWithGrace(t, h, NewStore(), time.Millisecond)
	s.sender.Insist(time.Hour)
	s.observe(200, 0, 10)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	s.until("a batch", func() bool { return s.received > 0 })
	s.sender.Insist(0)
	if err := <-stopped; err == nil {
		t.Error("Run says nothing of what could not be flushed")
	}
}
