package ingest

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

func someDetail(size int) *telemetryv1.Detail {
	return &telemetryv1.Detail{
		TraceId: make([]byte, 16), SpanId: make([]byte, 8),
		Request: &telemetryv1.Head{Fields: []*telemetryv1.HeaderField{{Name: "a", Value: string(make([]byte, size))}}},
	}
}

// The log is not for details: they go where they are accepted, with the batch that
// is new and not with its copy.
func TestDetailsAreAcceptedOnceAndNotLogged(t *testing.T) {
	log := &fakeLog{}
	r := newRig(t, log)
	stream := r.open()
	for range 2 {
		b := r.batch(1, 1)
		b.Details, b.OrderAnswers = []*telemetryv1.Detail{someDetail(10)}, []*telemetryv1.OrderAnswer{{Order: 1}}
		if _, err := r.push(stream, b); err != nil {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.accepted) != 1 || len(r.accepted[0].Details) != 1 || len(r.accepted[0].Answers) != 1 {
		t.Fatalf("accepted %d batches", len(r.accepted))
	}
	if b := r.accepted[0].Batch; len(b.GetDetails())+len(b.GetOrderAnswers()) != 0 {
		t.Error("the batch that was logged has its details")
	}
}

func TestPushRefusesTooManyDetails(t *testing.T) {
	for name, change := range map[string]func(*telemetryv1.Batch){
		"too many":         func(b *telemetryv1.Batch) { b.Details = make([]*telemetryv1.Detail, maxDetails+1) },
		"too large":        func(b *telemetryv1.Batch) { b.Details = []*telemetryv1.Detail{someDetail(maxDetailsBytes)} },
		"no ID":            func(b *telemetryv1.Batch) { b.Details = []*telemetryv1.Detail{{}} },
		"too many answers": func(b *telemetryv1.Batch) { b.OrderAnswers = make([]*telemetryv1.OrderAnswer, maxAnswers+1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, &fakeLog{})
			b := r.batch(1, 1)
			change(b)
			for i, d := range b.GetDetails() {
				if d == nil {
					b.Details[i] = someDetail(1)
				}
			}
			for i := range b.GetOrderAnswers() {
				b.OrderAnswers[i] = &telemetryv1.OrderAnswer{}
			}
			if _, err := r.push(r.open(), b); status.Code(err) != codes.InvalidArgument {
				t.Errorf("error %v, want an invalid argument", err)
			}
		})
	}
}

// An order goes at once, although there is nothing to acknowledge, and says the
// newest sequence again.
func TestAnOrderGoesToItsSidecarAlone(t *testing.T) {
	r := newRig(t, &fakeLog{})
	order := &telemetryv1.Order{Id: 3, TraceId: make([]byte, 16)}
	if r.Order("a-1", order) {
		t.Error("ordered where no stream is open")
	}
	stream, other := r.open(), r.open()
	if _, err := r.push(stream, r.batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	b := r.batch(1, 1)
	b.Sender = "b-1"
	if _, err := r.push(other, b); err != nil {
		t.Fatal(err)
	}
	if !r.Order("a-1", order) {
		t.Fatal("no stream is open")
	}
	ack, err := stream.Recv()
	if err != nil || ack.GetEpoch() != 7 || ack.GetSequence() != 1 || len(ack.GetOrders()) != 1 || ack.GetOrders()[0].GetId() != 3 {
		t.Errorf("acknowledgement %v, %v", ack, err)
	}
	if ack, err := r.push(other, func() *telemetryv1.Batch { b := r.batch(2, 1); b.Sender = "b-1"; return b }()); err != nil || len(ack.GetOrders()) != 0 {
		t.Errorf("the other sidecar's acknowledgement %v, %v", ack, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is closed", func() bool { return !r.Order("a-1", order) })
}

func TestOrdersThatWaitAreBounded(t *testing.T) {
	box := &outbox{orders: make(chan *telemetryv1.Order, maxWaiting)}
	s := &Server{}
	s.outboxes.open(box, &telemetryv1.Batch{Sender: "a", Epoch: 1})
	taken := 0
	for i := range 2 * maxWaiting {
		if s.Order("a", &telemetryv1.Order{Id: uint64(i)}) {
			taken++
		}
	}
	if taken != maxWaiting {
		t.Errorf("%d orders wait, want %d", taken, maxWaiting)
	}
	if list := box.gather(<-box.orders); len(list) != maxOrders || list[maxOrders-1].GetId() != maxOrders-1 {
		t.Errorf("%d orders in one acknowledgement", len(list))
	}
}
