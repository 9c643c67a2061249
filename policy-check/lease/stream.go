package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
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
	l := c.NewLink()
	backOff, down := firstBackOff, false
	for {
		answered, err := c.stream(ctx, conn, l)
		if ctx.Err() != nil {
			l.Abandon()
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
			l.Abandon()
			return nil
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// pullStream is one stream of a link.
type pullStream = grpc.BidiStreamingClient[policyv1.PullRequest, policyv1.PullResponse]

// stream runs one stream to its end.
func (c *Client) stream(ctx context.Context, conn grpc.ClientConnInterface, l *Link) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := policyv1.NewLeaseServiceClient(conn).Pull(ctx)
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	defer l.Close()
	again := l.Open()
	received := make(chan error, 1)
	go func() {
		err := c.receive(s, l, &answered)
		cancel()
		received <- err
	}()
	sendErr := c.send(ctx, s, l, again)
	c.connected.Store(false)
	cancel()
	err = <-received
	if errors.Is(sendErr, errSilent) {
		err = sendErr
	}
	return answered, err
}

// send repeats what was not answered, then sends pulls as pockets ask for them:
// at once when a request waits, with a little delay to gather others when none
// does.
func (c *Client) send(ctx context.Context, s pullStream, l *Link, again []*policyv1.PullRequest) error {
	for _, req := range again {
		if err := s.Send(req); err != nil {
			return fmt.Errorf("resend pull %d: %w", req.GetSequence(), err)
		}
	}
	flush := time.NewTimer(c.opts.FlushInterval)
	flush.Stop()
	defer flush.Stop()
	watch := time.NewTimer(answerTimeout) // runs while something is unanswered
	defer watch.Stop()
	watching := true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.lazy:
			flush.Reset(c.opts.FlushInterval)
			continue
		case <-watch.C:
			age := l.oldest(c.now())
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
		for req := l.Next(); req != nil; req = l.Next() {
			if err := s.Send(req); err != nil {
				return fmt.Errorf("send pull: %w", err)
			}
			if !watching {
				watching = true
				watch.Reset(answerTimeout)
			}
		}
	}
}

// receive applies answers until the stream ends.
func (c *Client) receive(s pullStream, l *Link, answered *bool) error {
	for {
		resp, err := s.Recv()
		if err != nil {
			return fmt.Errorf("receive grants: %w", err)
		}
		if !*answered {
			c.opts.Logger.Info("hub grants credits")
			*answered = true
		}
		l.Answer(resp)
	}
}
