package lease

import (
	"slices"
	"sync"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
)

// Link is a client's conversation with the hub, apart from what carries it: Run
// does over gRPC, a simulation by hand. Whoever carries it opens it, sends what
// Next returns and hands in the answers; it may be closed and opened again. It
// is safe for concurrent use, but one goroutine at a time may send.
type Link struct {
	client *Client

	mu sync.Mutex // guards the fields below
	// next is the last sequence used.
	next uint64
	// pulls are those without an answer. They outlive a stream: a resend with
	// the same sequence gets the credits that the hub already gave.
	pulls map[uint64]*pull
}

// pull is a request on its way.
type pull struct {
	request *policyv1.PullRequest
	pockets []*pocket
	sentAt  time.Duration
}

// NewLink makes a closed link. A client has one in its life, since sequences
// must not repeat.
func (c *Client) NewLink() *Link { return &Link{client: c, pulls: make(map[uint64]*pull)} }

// Open tells that there is a way to the hub again. It returns what has to be
// sent before anything else, in this order: pulls without an answer whose
// credits would still live. It gives up the others.
func (l *Link) Open() []*policyv1.PullRequest {
	now := l.client.now()
	var again []*policyv1.PullRequest
	var lost []*pull
	l.mu.Lock()
	for sequence, p := range l.pulls {
		if now-p.sentAt < lifeHorizons*l.client.opts.Horizon {
			again = append(again, p.request)
		} else {
			lost = append(lost, p)
			delete(l.pulls, sequence)
		}
	}
	l.mu.Unlock()
	for _, p := range lost {
		p.abandon()
	}
	slices.SortFunc(again, func(a, b *policyv1.PullRequest) int { return int(int64(a.GetSequence() - b.GetSequence())) })
	l.client.connected.Store(true)
	// Pockets that asked while there was no way.
	signal(l.client.urgent)
	return again
}

// Close tells that the way to the hub is lost. Requests that wait go to their
// failure policy; the pulls stay in flight, because Open may return them.
func (l *Link) Close() {
	c := l.client
	c.connected.Store(false)
	c.mu.Lock()
	waiting := slices.Clone(c.dirty)
	c.mu.Unlock()
	l.mu.Lock()
	for _, p := range l.pulls {
		waiting = append(waiting, p.pockets...)
	}
	l.mu.Unlock()
	for _, p := range waiting {
		p.mu.Lock()
		p.wake()
		p.mu.Unlock()
	}
}

// Wanted tells, once for each time, that a request waits for a pull (now), or
// that pockets want one that can wait for company (soon).
func (l *Link) Wanted() (now, soon bool) {
	select {
	case <-l.client.urgent:
		now = true
	default:
	}
	select {
	case <-l.client.lazy:
		soon = true
	default:
	}
	return now, soon
}

// Next returns the next pull to send, nil if no pocket wants one.
func (l *Link) Next() *policyv1.PullRequest {
	pockets := l.client.takeDirty(maxDemands)
	if len(pockets) == 0 {
		return nil
	}
	now := l.client.now()
	req := &policyv1.PullRequest{Sidecar: l.client.opts.Sidecar, Epoch: l.client.opts.Epoch, Demands: make([]*policyv1.Demand, len(pockets))}
	for i, p := range pockets {
		req.Demands[i] = p.demand(now)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	req.Sequence = l.next
	l.pulls[l.next] = &pull{request: req, pockets: pockets, sentAt: now}
	return req
}

// Answer takes in the hub's answer to a pull. Only the first to each counts.
func (l *Link) Answer(resp *policyv1.PullResponse) {
	l.mu.Lock()
	p := l.pulls[resp.GetSequence()]
	delete(l.pulls, resp.GetSequence())
	l.mu.Unlock()
	if p == nil {
		return
	}
	now := l.client.now()
	grants := resp.GetGrants()
	for i, pocket := range p.pockets {
		// Grants come in the order of the demands, or not at all.
		if i < len(grants) && grants[i].GetLimit() == pocket.pockets.bucket.Name && grants[i].GetKey() == pocket.key {
			pocket.apply(grants[i], p.sentAt, now)
		} else {
			pocket.apply(nil, p.sentAt, now)
		}
	}
}

// Abandon ends every pull, on the way or queued.
func (l *Link) Abandon() {
	l.mu.Lock()
	pulls := l.pulls
	l.pulls = make(map[uint64]*pull)
	l.mu.Unlock()
	for _, p := range pulls {
		p.abandon()
	}
	for _, p := range l.client.takeDirty(1 << 62) {
		p.abandon()
	}
}

func (p *pull) abandon() {
	for _, pocket := range p.pockets {
		pocket.abandon()
	}
}

// oldest is how long the oldest pull has been without an answer.
func (l *Link) oldest(now time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var age time.Duration
	for _, p := range l.pulls {
		age = max(age, now-p.sentAt)
	}
	return age
}
