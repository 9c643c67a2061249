package demo

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	loadTimeout = 15 * time.Second
	// maxInFlight bounds the load when the mesh is slow.
	maxInFlight = 64
	// lookupWithin is the product's promise for finding a request.
	lookupWithin = 2 * time.Second
	lookupEvery  = 100 * time.Millisecond
	lookupers    = 4
)

// load calls productpage through its sidecar at a steady rate and looks every
// request ID up that it gets back.
type load struct {
	client *http.Client
	hub    string
	rate   float64
	// patient look-ups wait for a hub that was killed on purpose.
	patient func() bool
	// opaque: what reviews and ratings say to each other carries no request ID.
	opaque bool

	sent, failed, skipped atomic.Uint64
	asked, found          atomic.Uint64
	last                  atomic.Pointer[string] // newest request ID

	queue chan answered
}

// answered is a response whose request must be found.
type answered struct {
	id string
	at time.Time
}

func newLoad(outbound, hub string, o Options, patient func() bool) *load {
	proxy := &url.URL{Scheme: "http", Host: outbound}
	return &load{
		client: &http.Client{
			Timeout:   loadTimeout,
			Transport: &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: 10 * time.Second},
		},
		hub: hub, rate: o.Rate, opaque: o.Mixed, patient: patient, queue: make(chan answered, 100_000),
	}
}

// run sends until ctx ends, then waits for what is in flight and for the
// look-ups.
func (l *load) run(ctx context.Context) {
	var lookups sync.WaitGroup
	for range lookupers {
		lookups.Go(func() {
			for a := range l.queue {
				l.lookup(a)
			}
		})
	}
	l.send(ctx)
	close(l.queue)
	lookups.Wait()
	l.client.CloseIdleConnections()
}

func (l *load) send(ctx context.Context) {
	var requests sync.WaitGroup
	defer requests.Wait()
	slots := make(chan struct{}, maxInFlight)
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			l.skipped.Add(1) // open loop, but bounded
			continue
		}
		requests.Go(func() {
			defer func() { <-slots }()
			// Not ctx: a request that was sent is waited for, or the counts of
			// both ends could not agree.
			l.one(context.WithoutCancel(ctx))
		})
	}
}

// one sends a request and returns its ID.
func (l *load) one(ctx context.Context) string {
	l.sent.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://productpage:9080/productpage", nil)
	if err != nil {
		l.failed.Add(1)
		return ""
	}
	req.Header.Set("User-Agent", "telemesh-demo")
	resp, err := l.client.Do(req)
	if err != nil {
		l.failed.Add(1)
		return ""
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode >= 500 {
		l.failed.Add(1)
	}
	id := resp.Header.Get(vocab.HeaderRequestID)
	if id != "" {
		l.asked.Add(1)
		l.last.Store(&id)
		l.queue <- answered{id: id, at: time.Now()}
	}
	return id
}

// lookup asks the hub until every hop of the request is there.
func (l *load) lookup(a answered) {
	for {
		if t, ok := l.trace(a.id); ok && complete(t, l.opaque) {
			l.found.Add(1)
			return
		}
		waited := time.Since(a.at)
		if waited > time.Minute || waited > lookupWithin && !l.patient() {
			return
		}
		time.Sleep(lookupEvery)
	}
}

func (l *load) trace(id string) (*topologyv1.Trace, bool) {
	var t topologyv1.Trace
	if scrape.JSON(context.Background(), l.hub+"/api/mesh/v1/requests/"+id+"?detail=no", &t) != nil {
		return nil, false
	}
	return &t, true
}

// complete reports whether a trace of productpage has every hop that Bookinfo
// makes, each with both sides or with the reason why one cannot be there. opaque:
// ratings is called by what is no request and has no ID.
func complete(t *topologyv1.Trace, opaque bool) bool {
	if len(t.Gaps) > 0 && !unreached(t) {
		return false
	}
	called := make(map[string]bool)
	needRatings := false
	for _, h := range t.Hops {
		side := h.Server
		if side == nil {
			side = h.Client
		}
		called[side.Destination.Service] = true
		answered := h.Server != nil && h.Server.Code == http.StatusOK
		if side.Destination.Service == "reviews" && side.Destination.Version != "v1" && answered {
			needRatings = true
		}
		if side.Destination.Service == "productpage" && !answered {
			return true // nothing followed
		}
	}
	return called["productpage"] && called["details"] && called["reviews"] && (called["ratings"] || opaque || !needRatings)
}

// unreached reports whether every gap is a request that died on its way.
func unreached(t *topologyv1.Trace) bool {
	gaps := 0
	for _, h := range t.Hops {
		if h.Gap != "" && h.Client != nil && h.Client.Flags != "" {
			gaps++
		}
	}
	return gaps == len(t.Gaps)
}
