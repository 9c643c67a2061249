package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"google.golang.org/grpc"
)

const (
	firstBackOff = 50 * time.Millisecond
	lastBackOff  = 2 * time.Second
	// answerTimeout is when a hub that takes pulls and does not answer counts
	// as gone.
	answerTimeout = time.Second
)

var errSilent = errors.New("hub does not answer")

// Run keeps the stream to the hub until ctx ends, and then returns nil. It is
// called once.
func (c *Client) Run(ctx context.Context, conn grpc.ClientConnInterface) error {
	u := &unanswered{pulls: make(map[uint64]*pull)}
	backOff, down := firstBackOff, false
	for {
		answered, err := c.stream(ctx, conn, u)
		if ctx.Err() != nil {
			c.abandonAll(u)
			return nil
		}
		if answered {
			backOff, down = firstBackOff, false
		}
		if !down {
			c.opts.Logger.Info("hub grants no credits, limits follow their failure policies", "error", err)
			down = true
		}
		// Half of it at random, so that sidecars don't come back all at once.
		pause := time.NewTimer(backOff/2 + rand.N(backOff))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			c.abandonAll(u)
			return nil
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// pull is a request on its way.
type pull struct {
	request *policyv1.PullRequest
	pockets []*pocket
	sentAt  time.Duration
}

// unanswered are the pulls without an answer. They outlive a stream: a resend
// with the same sequence gets the credits that the hub already gave.
type unanswered struct {
	mu    sync.Mutex // guards the fields below
	next  uint64
	pulls map[uint64]*pull
}

// stream runs one stream to its end.
func (c *Client) stream(ctx context.Context, conn grpc.ClientConnInterface, u *unanswered) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := policyv1.NewLeaseServiceClient(conn).Pull(ctx)
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	if err := c.resend(s, u); err != nil {
		return false, err
	}
	c.connected.Store(true)
	received := make(chan error, 1)
	go func() {
		err := c.receive(s, u, &answered)
		cancel()
		received <- err
	}()
	sendErr := c.send(ctx, s, u)
	c.connected.Store(false)
	cancel()
	err = <-received
	if errors.Is(sendErr, errSilent) {
		err = sendErr
	}
	c.wakeAll(u)
	return answered, err
}

// send sends pulls as pockets ask for them: at once when a request waits, with
// a little delay to gather others when none does.
func (c *Client) send(ctx context.Context, s grpc.BidiStreamingClient[policyv1.PullRequest, policyv1.PullResponse], u *unanswered) error {
	flush := time.NewTimer(c.opts.FlushInterval)
	flush.Stop()
	defer flush.Stop()
	watch := time.NewTimer(answerTimeout) // runs while something is unanswered
	watch.Stop()
	defer watch.Stop()
	watching := false
	// Pockets that asked while there was no stream.
	signal(c.urgent)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.lazy:
			flush.Reset(c.opts.FlushInterval)
			continue
		case <-watch.C:
			age := u.oldest(c.now())
			if age > answerTimeout {
				return errSilent
			}
			if watching = age > 0; watching {
				watch.Reset(answerTimeout / 4)
			}
			continue
		case <-c.urgent:
		case <-flush.C:
		}
		for ps := c.takeDirty(); len(ps) > 0; {
			n := min(len(ps), maxDemands)
			if err := s.Send(c.newPull(ps[:n], u)); err != nil {
				return fmt.Errorf("send pull: %w", err)
			}
			ps = ps[n:]
			if !watching {
				watching = true
				watch.Reset(answerTimeout)
			}
		}
	}
}

func (c *Client) newPull(ps []*pocket, u *unanswered) *policyv1.PullRequest {
	now := c.now()
	req := &policyv1.PullRequest{Sidecar: c.opts.Sidecar, Epoch: c.opts.Epoch, Demands: make([]*policyv1.Demand, len(ps))}
	for i, p := range ps {
		req.Demands[i] = p.demand(now)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next++
	req.Sequence = u.next
	u.pulls[u.next] = &pull{request: req, pockets: ps, sentAt: now}
	return req
}

// receive applies answers until the stream ends.
func (c *Client) receive(s grpc.BidiStreamingClient[policyv1.PullRequest, policyv1.PullResponse], u *unanswered, answered *bool) error {
	for {
		resp, err := s.Recv()
		if err != nil {
			return fmt.Errorf("receive grants: %w", err)
		}
		if !*answered {
			c.opts.Logger.Info("hub grants credits")
			*answered = true
		}
		u.mu.Lock()
		p := u.pulls[resp.GetSequence()]
		delete(u.pulls, resp.GetSequence())
		u.mu.Unlock()
		if p == nil {
			continue
		}
		now := c.now()
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
}

// resend repeats the pulls whose credits would still live and gives up others.
func (c *Client) resend(s grpc.BidiStreamingClient[policyv1.PullRequest, policyv1.PullResponse], u *unanswered) error {
	now := c.now()
	u.mu.Lock()
	var again, lost []*pull
	for seq, p := range u.pulls {
		if now-p.sentAt < lifeHorizons*c.opts.Horizon {
			again = append(again, p)
		} else {
			lost = append(lost, p)
			delete(u.pulls, seq)
		}
	}
	u.mu.Unlock()
	for _, p := range lost {
		p.abandon()
	}
	for _, p := range again {
		if err := s.Send(p.request); err != nil {
			return fmt.Errorf("resend pull %d: %w", p.request.GetSequence(), err)
		}
	}
	return nil
}

func (p *pull) abandon() {
	for _, pocket := range p.pockets {
		pocket.abandon()
	}
}

// oldest is how long the oldest pull has been without an answer.
func (u *unanswered) oldest(now time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	var age time.Duration
	for _, p := range u.pulls {
		age = max(age, now-p.sentAt)
	}
	return age
}

// wakeAll lets the requests that wait go to their failure policy. The pulls
// stay in flight: they may be resent.
func (c *Client) wakeAll(u *unanswered) {
	c.mu.Lock()
	waiting := append([]*pocket(nil), c.dirty...)
	c.mu.Unlock()
	u.mu.Lock()
	for _, p := range u.pulls {
		waiting = append(waiting, p.pockets...)
	}
	u.mu.Unlock()
	for _, p := range waiting {
		p.mu.Lock()
		p.wake()
		p.mu.Unlock()
	}
}

// abandonAll ends every pull, on the way or queued.
func (c *Client) abandonAll(u *unanswered) {
	u.mu.Lock()
	pulls := u.pulls
	u.pulls = make(map[uint64]*pull)
	u.mu.Unlock()
	for _, p := range pulls {
		p.abandon()
	}
	for _, p := range c.takeDirty() {
		p.abandon()
	}
}
