package ingest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

const (
	// What one batch may bring of tier 2; see telemetry.proto.
	maxDetails      = 64
	maxDetailsBytes = 2 << 20
	maxAnswers      = 64
	// maxOrders of one acknowledgement, and maxWaiting for one.
	maxOrders  = 64
	maxWaiting = 256
)

// checkDetails refuses more than the contract has, and what names no request.
func checkDetails(b *telemetryv1.Batch) error {
	if n := len(b.GetDetails()); n > maxDetails {
		return fmt.Errorf("%d details are more than %d", n, maxDetails)
	}
	if n := len(b.GetOrderAnswers()); n > maxAnswers {
		return fmt.Errorf("%d answers to orders are more than %d", n, maxAnswers)
	}
	size := 0
	for _, d := range b.GetDetails() {
		if len(d.GetTraceId()) != 16 || len(d.GetSpanId()) != 8 {
			return errors.New("a detail has no trace ID of 16 bytes and span ID of 8")
		}
		size += proto.Size(d)
	}
	if size > maxDetailsBytes {
		return fmt.Errorf("%d bytes of details are more than %d", size, maxDetailsBytes)
	}
	return nil
}

// outbox is what is to be ordered on one stream.
type outbox struct {
	orders chan *telemetryv1.Order
	sender string // of the first batch, empty before
	epoch  uint64
}

// gather takes what waits behind the first order, as much as one acknowledgement
// may have.
func (o *outbox) gather(first *telemetryv1.Order) []*telemetryv1.Order {
	list := []*telemetryv1.Order{first}
	for len(list) < maxOrders {
		select {
		case more := <-o.orders:
			list = append(list, more)
		default:
			return list
		}
	}
	return list
}

// outboxes are those of the open streams that said whose they are. A sidecar has
// two while one process takes over from another.
type outboxes struct {
	mu       sync.Mutex // guards the field below
	bySender map[string][]*outbox
}

// open notes whose a stream is, with its first batch.
func (a *outboxes) open(o *outbox, b *telemetryv1.Batch) {
	if o.sender != "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o.sender, o.epoch = b.GetSender(), b.GetEpoch()
	if a.bySender == nil {
		a.bySender = make(map[string][]*outbox)
	}
	a.bySender[o.sender] = append(a.bySender[o.sender], o)
}

func (a *outboxes) close(o *outbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := slices.DeleteFunc(a.bySender[o.sender], func(one *outbox) bool { return one == o })
	if len(left) == 0 {
		delete(a.bySender, o.sender)
		return
	}
	a.bySender[o.sender] = left
}

// Order sends an order to a sidecar with its next acknowledgement, which goes at
// once. It is false if no stream of the sidecar is open, or too many orders wait
// there already. It does not block.
func (s *Server) Order(sender string, order *telemetryv1.Order) bool {
	s.outboxes.mu.Lock()
	defer s.outboxes.mu.Unlock()
	taken := false
	for _, o := range s.outboxes.bySender[sender] {
		select {
		case o.orders <- order:
			taken = true
		default:
		}
	}
	return taken
}
