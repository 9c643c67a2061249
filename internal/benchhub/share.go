package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/recordgen"
	"github.com/telemesh/telemesh/internal/s3server"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	shareLease  = 3 * time.Second
	shareSettle = time.Minute
)

// share has two hubs use one bucket of a real S3 server, with everything
// acknowledged for being there. In turn one of them is killed and started again,
// and killed and lost with its disk, each time at a random moment; its senders go
// to the other, as sidecars behind a balancer do. Whatever was acknowledged must be
// found on either hub afterwards, once.
func share(ctx context.Context, o options) (err error) {
	k, err := newKiller(o)
	if err != nil {
		return err
	}
	server, err := s3server.Start(filepath.Join(o.bin, "tools", "versitygw"), filepath.Join(o.dir, "s3"))
	if err != nil {
		return err
	}
	defer server.Stop()
	p := &pair{killer: k, config: filepath.Join(o.dir, "bucket.yaml"), random: rand.New(rand.NewPCG(o.seed, 7))}
	if err := os.WriteFile(p.config, []byte(s3server.Config(server.Address, "mesh")), 0o600); err != nil {
		return err
	}
	for i := range p.members {
		if err := p.begin(ctx, i); err != nil {
			return errors.Join(err, p.close())
		}
	}
	for round := range o.rounds {
		if err := p.round(ctx, round); err != nil {
			return errors.Join(fmt.Errorf("round %d: %w", round+1, err), p.close())
		}
	}
	return errors.Join(p.settle(ctx), p.close())
}

// pair are two hubs that share a bucket.
type pair struct {
	*killer
	config  string
	random  *rand.Rand
	members [2]member
	begun   int
}

// member is one hub, with the senders that it serves.
type member struct {
	hub     *hub
	dir     string
	streams *streams
	to      int // the hub that they go to
}

// begin starts a hub that is new, or one that goes on with its disk.
func (p *pair) begin(ctx context.Context, i int) error {
	m := &p.members[i]
	if m.dir == "" {
		p.begun++
		m.dir = filepath.Join(p.o.dir, fmt.Sprint("hub-", p.begun))
	}
	h, err := startHub(ctx, filepath.Join(p.o.bin, "mesh-hub"), m.dir, "--seal-bytes", "400000", "--seal-after", "500ms",
		"--bucket-config", p.config, "--durability", "bucket", "--upload-after", "1s", "--bucket-poll", "1s", "--bucket-lease", shareLease.String(), "--log-level", "error")
	if err != nil {
		return err
	}
	m.hub = h
	return p.attach(ctx, i, i)
}

// attach connects the senders of one hub to another, or to it.
func (p *pair) attach(ctx context.Context, of, to int) error {
	p.members[of].to = to
	var senders []*recordgen.Sender
	for i, s := range p.mesh.Senders {
		if i%len(p.members) == of {
			senders = append(senders, s)
		}
	}
	s, err := p.connect(ctx, p.members[to].hub, senders)
	if err == nil {
		p.members[of].streams = s
	}
	return err
}

// run loads both hubs for a while.
func (p *pair) run(ctx context.Context, d time.Duration) error {
	for until := time.Now().Add(d); time.Now().Before(until); {
		p.load(p.members[0].streams, p.members[1].streams)
		if err := p.again(ctx); err != nil {
			return err
		}
	}
	return nil
}

// again connects those again whom a hub has refused, as sidecars do. A hub that
// has ended by itself is started again: where so much else runs that it was silent
// for longer than its lease, the other has taken its log over.
func (p *pair) again(ctx context.Context) error {
	for i := range p.members {
		m := &p.members[i]
		if m.streams.ended.Load() == 0 {
			continue
		}
		time.Sleep(100 * time.Millisecond)
		m.streams.close()
		err := p.attach(ctx, i, m.to)
		if err == nil {
			continue
		}
		fmt.Println("a hub has ended by itself:", err)
		if err := errors.Join(p.members[m.to].hub.kill(), p.begin(ctx, m.to)); err != nil {
			return err
		}
		if i != m.to {
			if err := p.attach(ctx, i, m.to); err != nil {
				return err
			}
		}
	}
	return nil
}

// round kills one hub; in every other round its disk is lost too.
func (p *pair) round(ctx context.Context, round int) error {
	i := round / 2 % 2
	m := &p.members[i]
	err := errors.Join(p.run(ctx, time.Duration(p.random.Int64N(int64(3*time.Second)))), m.hub.kill())
	m.streams.close()
	if lost := round%2 == 1; lost && err == nil {
		err = os.RemoveAll(m.dir)
		m.dir = ""
	}
	if err != nil {
		return err
	}
	if err := p.attach(ctx, i, 1-i); err != nil {
		return err
	}
	if err := p.run(ctx, time.Duration(p.random.Int64N(int64(2*shareLease)))); err != nil {
		return err
	}
	m.streams.close()
	fmt.Printf("round %d: %d records sent, %d batches to be acknowledged\n", round+1, p.records, p.waiting())
	return p.begin(ctx, i)
}

// settle waits until every request is found on both hubs, whole. Senders go on to
// tell that there is nothing new, as sidecars do.
func (p *pair) settle(ctx context.Context) error {
	var err error
	for until := time.Now().Add(shareSettle); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		for _, sender := range p.mesh.Senders {
			p.send(sender, p.members[0].streams, p.members[1].streams)
		}
		if err := p.again(ctx); err != nil {
			return err
		}
		if p.waiting() > 4*len(p.mesh.Senders) { // more than what is on its way now
			err = fmt.Errorf("%d batches are not acknowledged", p.waiting())
			continue
		}
		if err = p.lookUpAll(ctx); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	return p.sum(ctx)
}

func (p *pair) lookUpAll(ctx context.Context) error {
	for _, m := range p.members {
		for i := 0; i < len(p.samples); i += max(len(p.samples)/5000, 1) {
			if _, err := m.hub.lookUp(ctx, p.samples[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum says what the bucket holds.
func (p *pair) sum(ctx context.Context) error {
	for i, m := range p.members {
		page, err := scrape.Get(ctx, m.hub.http)
		if err != nil {
			return err
		}
		fmt.Printf("hub %d: every request looked up has all its records, once; %d sent; in the bucket %.0f in %.0f segments, %.0f logs of lost hubs taken over\n",
			i+1, p.records, page.Sum(vocab.MetricHubBucketRecords, nil), page.Sum(vocab.MetricHubBucketSegments, nil), page.Sum(vocab.MetricHubBucketTaken, nil))
	}
	return nil
}

func (p *pair) close() error {
	var errs []error
	for _, m := range p.members {
		if m.streams != nil {
			m.streams.close()
		}
		if m.hub != nil {
			errs = append(errs, m.hub.kill())
		}
	}
	return errors.Join(errs...)
}
