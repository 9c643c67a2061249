package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
)

// known is what a hub knows of all traffic.
type known struct {
	records, rejected uint64
	requests          map[string]float64 // by reporter and response code
}

// request is one that was sent.
type request struct {
	id, path string
	status   int
}

// failing is one in so many; looked up is one in lookUpEvery.
const (
	failing     = 20
	lookUpEvery = 19 // so that some of them failed
)

// try runs one pairing.
func try(ctx context.Context, hub, caller, callee string, n int) (err error) {
	m := &mesh{}
	defer m.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the processes said last:\n%s", err, m.stderr.tail(6))
		}
	}()
	if err := m.start(ctx, hub, caller, callee); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // the warm-up is told
		return err
	}
	before, err := m.known(ctx)
	if err != nil {
		return err
	}
	sent, err := m.send(ctx, n)
	if err != nil {
		return err
	}
	m.stop(1) // the sidecars, which tell the rest; not the hub
	after, err := m.known(ctx)
	if err != nil {
		return err
	}
	return errors.Join(compare(before, after, n), m.lookUp(ctx, sent))
}

func (m *mesh) send(ctx context.Context, n int) ([]request, error) {
	c := m.client()
	defer c.CloseIdleConnections()
	sent := make([]request, n)
	for i := range sent {
		r := request{id: fmt.Sprintf("%08x-0000-4000-8000-%012x", i+1, time.Now().UnixNano()&0xffffffffffff), path: fmt.Sprint("/item/", i)}
		if i%failing == 0 {
			r.path = fmt.Sprint("/fail/", i)
		}
		var err error
		if r.status, err = call(ctx, c, r.path, r.id); err != nil {
			return nil, err
		}
		sent[i] = r
	}
	return sent, nil
}

// known reads the hub's own account.
func (m *mesh) known(ctx context.Context) (k known, err error) {
	var status topologyv1.Status
	if err := scrape.JSON(ctx, m.hubURL("/api/mesh/v1/status"), &status); err != nil {
		return k, err
	}
	page, err := scrape.Get(ctx, m.hubURL(""))
	if err != nil {
		return k, err
	}
	k.records, k.rejected, k.requests = status.Ingest.Records, status.Ingest.Rejected, make(map[string]float64)
	for _, one := range page["istio_requests_total"].GetMetric() {
		labels := scrape.Labels(one)
		k.requests[labels["reporter"]+" "+labels["response_code"]] += one.GetCounter().GetValue()
	}
	return k, nil
}

// compare looks whether n requests, each seen by two sidecars, came between.
func compare(before, after known, n int) error {
	var errs []error
	if got := after.records - before.records; got != uint64(2*n) {
		errs = append(errs, fmt.Errorf("%d records, want %d", got, 2*n))
	}
	if after.rejected != 0 {
		errs = append(errs, fmt.Errorf("%d batches refused", after.rejected))
	}
	bad := (n + failing - 1) / failing
	for _, reporter := range []string{"source", "destination"} {
		for code, want := range map[string]int{"200": n - bad, "500": bad} {
			k := reporter + " " + code
			if got := after.requests[k] - before.requests[k]; got != float64(want) {
				errs = append(errs, fmt.Errorf("istio_requests_total of %s: %g, want %d", k, got, want))
			}
		}
	}
	return errors.Join(errs...)
}

// lookUp finds some of what was sent by its request ID.
func (m *mesh) lookUp(ctx context.Context, sent []request) error {
	for i := 0; i < len(sent); i += lookUpEvery {
		r := sent[i]
		var t topologyv1.Trace
		if err := scrape.JSON(ctx, m.hubURL("/api/mesh/v1/requests/"+r.id), &t); err != nil {
			return fmt.Errorf("look up request %d: %w", i, err)
		}
		if len(t.Hops) != 1 || t.Hops[0].Client == nil || t.Hops[0].Server == nil {
			return fmt.Errorf("request %d has %d hops, or one without both sides: %+v", i, len(t.Hops), t.Hops)
		}
		for _, side := range []*topologyv1.Record{t.Hops[0].Client, t.Hops[0].Server} {
			if side.Path != r.path || int(side.Code) != r.status {
				return fmt.Errorf("request %d was %s with %d, and is %s with %d", i, r.path, r.status, side.Path, side.Code)
			}
		}
	}
	return nil
}
