// Package registry knows which sidecars are there and tells each of them what
// the others serve and which policies hold.
//
// It remembers the sidecars on disk: after its own restart they keep their
// places while they reconnect, so that a dead hub never takes an endpoint away.
package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

const (
	// reconnect is how long a sidecar that was there before the hub's restart
	// may take to come back before its endpoint counts as dead.
	reconnect = 10 * time.Second
	// linger is how long a lost sidecar stays an endpoint of last resort: its
	// stream may have broken and not it.
	linger = 10 * time.Second
	// remember is how long a lost sidecar is shown.
	remember = 15 * time.Minute
	// coalesce gathers changes before they are pushed.
	coalesce = 20 * time.Millisecond
)

// Policy is one policy to distribute.
type Policy struct {
	ID, Version string
	Canonical   []byte
}

// Sidecar is one sidecar as the registry sees it.
type Sidecar struct {
	Node         *discoveryv1.Node
	Connected    bool
	AppReachable bool
	Detail       string
	// Since is when the connection began, or was lost.
	Since time.Time
	// Policies are the versions in force by policy ID.
	Policies map[string]string
}

// member is a sidecar under the registry's lock.
type member struct {
	Sidecar
	// restored members were there before the hub's restart.
	restored bool
	kick     chan struct{} // has room for one: something changed; closed when a newer connection takes over
	stream   uint64        // the connection in charge
}

// Options of a Registry.
type Options struct {
	// File remembers the members; empty remembers nothing.
	File string
	// Gone is called when a sidecar is forgotten.
	Gone func(instance string)
	// Damaged is called by New when File is there and cannot be read; may be nil.
	Damaged func()
	Now     func() time.Time
	Logger  *slog.Logger
}

// Registry is the discovery service. Safe for concurrent use.
type Registry struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	o Options

	mu       sync.Mutex // guards the fields below
	members  map[string]*member
	policies []Policy
	streams  uint64
}

// New returns a registry with the members that File remembers.
func New(o Options) *Registry {
	r := &Registry{o: o, members: make(map[string]*member)}
	if err := r.load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		o.Logger.Warn("remembered sidecars are unusable, starting without", "file", o.File, "error", err)
		if o.Damaged != nil {
			o.Damaged()
		}
	}
	return r
}

// SetPolicies replaces the policies and tells every sidecar.
func (r *Registry) SetPolicies(ps []Policy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policies = ps
	r.kickAll()
}

// Sidecars lists the members, by instance.
func (r *Registry) Sidecars() []Sidecar {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Sidecar, 0, len(r.members))
	for _, m := range r.members {
		out = append(out, m.Sidecar)
	}
	slices.SortFunc(out, func(a, b Sidecar) int { return cmp.Compare(a.Node.GetInstance(), b.Node.GetInstance()) })
	return out
}

// kickAll wakes every stream. The caller holds mu.
func (r *Registry) kickAll() {
	for _, m := range r.members {
		select {
		case m.kick <- struct{}{}:
		default:
		}
	}
}

// Connect implements the discovery service.
func (r *Registry) Connect(stream grpc.BidiStreamingServer[discoveryv1.ConnectRequest, discoveryv1.ConnectResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil || hello.GetNode().GetInstance() == "" || hello.GetNode().GetService() == "" {
		return status.Error(codes.InvalidArgument, "the first message must be a hello with an instance and a service")
	}
	kick, id, ok := r.join(hello.GetNode())
	if !ok {
		return errTaken
	}
	instance := hello.GetNode().GetInstance()
	received := make(chan error, 1)
	told := newTold(hello.GetResourceVersions())
	go func() { received <- r.listen(stream, instance, id, told) }()
	for {
		if err := r.tell(stream, told); err != nil {
			r.leave(instance, id, false)
			return err
		}
		select {
		case _, inCharge := <-kick:
			if !inCharge {
				return errTaken
			}
			time.Sleep(coalesce)
		case err := <-received:
			r.leave(instance, id, errors.Is(err, io.EOF))
			if errors.Is(err, errTaken) {
				return errTaken
			}
			return nil
		}
	}
}

// errTaken ends the stream of a sidecar whose instance joined again.
var errTaken = status.Error(codes.Aborted, "another sidecar took this instance name")

// listen takes a sidecar's messages until its stream ends.
func (r *Registry) listen(stream grpc.BidiStreamingServer[discoveryv1.ConnectRequest, discoveryv1.ConnectResponse], instance string, id uint64, told *told) error {
	for {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		r.mu.Lock()
		m := r.members[instance]
		if m == nil || m.stream != id {
			r.mu.Unlock()
			return errTaken
		}
		switch {
		case in.GetHealth() != nil:
			h := in.GetHealth()
			if m.AppReachable != h.GetApplicationReachable() {
				m.AppReachable, m.Detail = h.GetApplicationReachable(), h.GetDetail()
				r.kickAll()
			}
		case in.GetAck() != nil:
			if reason := in.GetAck().GetError(); reason != "" {
				m.Detail = reason
				r.o.Logger.Error("sidecar refused its configuration", "instance", instance, "reason", reason)
			} else {
				m.Policies = told.policies(in.GetAck().GetNonce())
			}
		}
		r.mu.Unlock()
	}
}

// join makes a new connection the one in charge of its instance. Each has a
// kick of its own, lest a dead one swallow what is meant for its successor. It
// is not ok for a process of an earlier epoch while a later one is connected: it
// has been replaced and drains, and the two would take the name from each other
// for ever.
func (r *Registry) join(n *discoveryv1.Node) (kick <-chan struct{}, id uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[n.GetInstance()]
	if m != nil && m.Connected && n.GetEpoch() < m.Node.GetEpoch() {
		return nil, 0, false
	}
	r.streams++
	if m == nil {
		m = &member{}
		r.members[n.GetInstance()] = m
	} else {
		close(m.kick)
	}
	m.kick = make(chan struct{}, 1)
	// A sidecar without application is as reachable as it gets.
	reachable := m.AppReachable && m.Connected || m.restored && m.AppReachable || n.GetInboundAddress() == ""
	m.Sidecar = Sidecar{Node: n, Connected: true, AppReachable: reachable, Since: r.o.Now(), Policies: map[string]string{}}
	m.restored, m.stream = false, r.streams
	r.o.Logger.Info("sidecar joined", "instance", n.GetInstance(), "service", n.GetService(), "inbound", n.GetInboundAddress())
	r.save()
	r.kickAll()
	return m.kick, r.streams, true
}

// leave marks a sidecar as lost, or forgets it when it said goodbye.
func (r *Registry) leave(instance string, id uint64, goodbye bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[instance]
	if m == nil || m.stream != id {
		return // another connection is in charge
	}
	if goodbye {
		r.forget(instance)
	} else {
		m.Connected, m.Since = false, r.o.Now()
		r.o.Logger.Warn("sidecar lost", "instance", instance)
	}
	r.save()
	r.kickAll()
}

// forget drops a member. The caller holds mu.
func (r *Registry) forget(instance string) {
	delete(r.members, instance)
	r.o.Logger.Info("sidecar left", "instance", instance)
	if r.o.Gone != nil {
		r.o.Gone(instance)
	}
}

// Expire forgets what has been lost for long. The hub calls it now and then.
func (r *Registry) Expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, changed, lost := r.o.Now(), false, false
	for instance, m := range r.members {
		switch {
		case m.Connected:
			continue
		case m.restored && now.Sub(m.Since) > reconnect:
			m.restored, changed = false, true
		case now.Sub(m.Since) > remember:
			r.forget(instance)
			changed = true
		}
		lost = true
	}
	if changed {
		r.save()
	}
	if lost { // endpoints of last resort end by time; who has nothing new is told nothing
		r.kickAll()
	}
}

// services builds the routable services. The caller holds mu.
func (r *Registry) services() []*discoveryv1.Service {
	byHost := make(map[string]*discoveryv1.Service)
	for _, m := range r.members {
		n := m.Node
		present := m.Connected || m.restored
		if n.GetInboundAddress() == "" || !present && r.o.Now().Sub(m.Since) > linger {
			continue
		}
		host := n.GetService() + "." + n.GetNamespace() + ".svc.cluster.local"
		s := byHost[host]
		if s == nil {
			s = &discoveryv1.Service{Namespace: n.GetNamespace(), Name: n.GetService(), Host: host, Port: n.GetServicePort()}
			byHost[host] = s
		}
		s.Endpoints = append(s.Endpoints, &discoveryv1.Endpoint{
			Instance: n.GetInstance(), Address: n.GetInboundAddress(), Cluster: n.GetCluster(), Workload: n.GetWorkload(), Version: n.GetVersion(),
			Healthy: m.AppReachable && present, InboundTls: n.GetInboundTls(), Principal: n.GetPrincipal(),
		})
	}
	out := make([]*discoveryv1.Service, 0, len(byHost))
	for _, s := range byHost {
		slices.SortFunc(s.Endpoints, func(a, b *discoveryv1.Endpoint) int { return cmp.Compare(a.GetInstance(), b.GetInstance()) })
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *discoveryv1.Service) int { return cmp.Compare(a.GetHost(), b.GetHost()) })
	return out
}

// Services lists what the registry resolves.
func (r *Registry) Services() []*discoveryv1.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.services()
}

// save writes the members down. A failure costs the grace after the next
// restart, not more. The caller holds mu.
func (r *Registry) save() {
	if r.o.File == "" {
		return
	}
	var state []json.RawMessage
	for _, m := range r.members {
		if b, err := protojson.Marshal(m.Node); err == nil && (m.Connected || m.restored) {
			state = append(state, b)
		}
	}
	b, err := json.Marshal(state)
	if err == nil {
		err = os.WriteFile(r.o.File+".new", b, 0o644)
	}
	if err == nil {
		err = os.Rename(r.o.File+".new", r.o.File)
	}
	if err != nil {
		r.o.Logger.Warn("sidecars are not remembered", "file", r.o.File, "error", err)
	}
}

func (r *Registry) load() error {
	if r.o.File == "" {
		return nil
	}
	b, err := os.ReadFile(r.o.File)
	if err != nil {
		return err
	}
	var state []json.RawMessage
	if err := json.Unmarshal(b, &state); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	for _, raw := range state {
		n := &discoveryv1.Node{}
		if err := protojson.Unmarshal(raw, n); err != nil {
			return fmt.Errorf("decode node: %w", err)
		}
		r.members[n.GetInstance()] = &member{
			Sidecar:  Sidecar{Node: n, AppReachable: true, Detail: "not back since the hub's restart", Since: r.o.Now()},
			restored: true, kick: make(chan struct{}, 1),
		}
	}
	return nil
}
