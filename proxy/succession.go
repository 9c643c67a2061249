package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/telemesh/telemesh/internal/netns"
	"github.com/telemesh/telemesh/proxy/handover"
)

// roles of the listeners in a hand-over, in the order of Proxy.listeners.
var roles = [3]string{"inbound", "outbound", "admin"}

// takeOver asks the process that waits at the hand-over socket for its
// listeners. Without one, this process is the one that waits there.
func (p *Proxy) takeOver() error {
	if p.config.HandOver == "" {
		return nil
	}
	taken, err := handover.Take(context.Background(), p.config.HandOver)
	if errors.Is(err, handover.ErrNobody) {
		p.control, err = handover.Listen(p.config.HandOver)
	}
	if err != nil {
		return fmt.Errorf("--hand-over: %w", err)
	}
	if taken == nil {
		return nil
	}
	if taken.Service != p.config.Service {
		taken.Close()
		return fmt.Errorf("--hand-over: the process at %s is the sidecar of %q", p.config.HandOver, taken.Service)
	}
	p.taken = taken
	p.epoch = max(p.epoch, taken.Epoch+1) // a clock may have been set back
	return nil
}

// inherited is what the process before knew of the mesh.
func (p *Proxy) inherited() []byte {
	if p.taken == nil {
		return nil
	}
	return p.taken.Configuration
}

// netns is where the listener of a role is opened; empty for the own namespace.
func (p *Proxy) netns(role string) string {
	if role == roles[0] || role == roles[2] {
		return ""
	}
	return p.config.OutboundNetns
}

// open listens at an address, with the socket of the process before if that
// does. The next process is offered the listener under the same role.
func (p *Proxy) open(role, address, namespace string) (net.Listener, error) {
	l, err := p.inherit(role, address, namespace)
	switch {
	case l != nil || err != nil:
	case namespace != "":
		l, err = netns.Listen(namespace, "tcp", address)
	default:
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, handover.Listener{Role: role, Listener: l, Netns: namespace})
	return l, nil
}

// inherit is the listener of the process before, nil without.
func (p *Proxy) inherit(role, address, namespace string) (net.Listener, error) {
	if p.taken == nil {
		return nil, nil
	}
	return p.taken.Listener(role, address, namespace)
}

// succeed tells the process before that this one serves, then waits for the one
// after. It returns when there is one, or when ctx ends.
func (p *Proxy) succeed(ctx context.Context) error {
	if p.config.HandOver == "" {
		return nil
	}
	if p.taken != nil {
		if err := p.announce(ctx); err != nil {
			p.discovery.Yield() // the process before may serve on: no goodbye for it
			return fmt.Errorf("--hand-over: %w", err)
		}
	}
	defer p.control.Close()
	if p.control.Wait(ctx, p.offer, p.log) != nil {
		return nil // ctx has ended
	}
	p.log.Info("handed over, a newer process serves")
	p.life.enter(HandedOver)
	p.discovery.Yield()
	if p.discovery.Joined() {
		p.sender.Insist(lastWord)
	}
	p.life.yield.happen()
	p.admin.Release()
	return nil
}

// lastWord is how long a process that has handed over tries to tell a hub that
// is away what it has counted. Nobody waits for it to end.
const lastWord = 30 * time.Second

// joinFirst is how long a new process waits for the hub before it says that it
// serves. Once it has joined, the old one can leave unnoticed; without the hub
// there is nobody to notice.
const joinFirst = 500 * time.Millisecond

// announce tells the process before that this one serves, and takes its place at
// the hand-over socket.
func (p *Proxy) announce(ctx context.Context) error {
	tick := time.NewTicker(joinFirst / 100)
	defer tick.Stop()
	for limit := time.Now().Add(joinFirst); !p.discovery.Connected() && time.Now().Before(limit) && ctx.Err() == nil; {
		<-tick.C
	}
	control, err := p.taken.Serving()
	if err != nil {
		return err
	}
	p.control = control
	p.log.Info("took over", "from", p.taken.Instance, "epoch", p.taken.Epoch)
	return nil
}

// offer is what the next process is given.
func (p *Proxy) offer() (handover.Offer, error) {
	if !p.life.in(Serving) {
		return handover.Offer{}, errors.New("it is " + p.Ready().Error())
	}
	return handover.Offer{
		Service: p.config.Service, Instance: p.config.Instance, Epoch: p.epoch,
		Listeners: p.opened, Configuration: p.discovery.Known(),
	}, nil
}
