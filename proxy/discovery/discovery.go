// Package discovery joins the sidecar to the mesh: it registers the workload
// with the hub and applies the services and policies that the hub sends. What
// it learned last stays on disk, so that a sidecar starts and routes with no
// hub at all.
package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

// goodbye is how long the hub may take to notice that the sidecar leaves.
const goodbye = 500 * time.Millisecond

// Applier puts what was learned in force.
type Applier interface {
	// ApplyServices replaces all services.
	ApplyServices([]*discoveryv1.Service)
	// ApplyPolicies replaces all policies (canonical JSON). On an error the old
	// ones stay in force.
	ApplyPolicies(canonical [][]byte) error
	// ApplySidecars tells how many sidecars the mesh has.
	ApplySidecars(int)
}

// Options of a Client.
type Options struct {
	Node    *discoveryv1.Node
	Conn    grpc.ClientConnInterface
	Applier Applier
	// StateFile keeps the last known configuration; empty keeps none.
	StateFile string
	// State is what an earlier process knew last (Known); it comes before what
	// StateFile holds.
	State  []byte
	Logger *slog.Logger
}

// Client keeps the discovery stream.
type Client struct {
	o         Options
	resources map[string]*discoveryv1.Resource // what the hub wants, by "type/name"; only Run touches it
	kept      map[string]*discoveryv1.Resource // of that, what is in force; likewise
	sidecars  uint32
	connected atomic.Bool
	health    chan *discoveryv1.Health
	lastSent  atomic.Pointer[discoveryv1.Health]
	known     atomic.Pointer[discoveryv1.ConnectResponse] // kept and sidecars, for other goroutines
	joined    atomic.Bool
	yielded   atomic.Bool
}

// NewClient returns a client and applies the last known configuration, if
// there is one.
func NewClient(o Options) *Client {
	c := &Client{o: o, resources: make(map[string]*discoveryv1.Resource), kept: make(map[string]*discoveryv1.Resource), health: make(chan *discoveryv1.Health, 1)}
	if len(o.State) > 0 {
		err := c.restore(o.State)
		if err == nil {
			return c
		}
		o.Logger.Warn("the earlier process' configuration is unusable", "error", err)
	}
	if err := c.load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		o.Logger.Warn("last known configuration is unusable, starting without", "file", o.StateFile, "error", err)
	}
	return c
}

// Known is the last known configuration, for Options.State of another process;
// nil if there is none. Safe for concurrent use.
func (c *Client) Known() []byte {
	known := c.known.Load()
	if known == nil {
		return nil
	}
	b, err := protojson.Marshal(known)
	if err != nil {
		return nil // the hub tells the other process, too
	}
	return b
}

// Yield leaves the instance to a newer process, which may have joined already or
// be about to: Run then ends without a goodbye, which would take the newer one's
// endpoint away, and does not try again once the hub has ended the stream.
func (c *Client) Yield() { c.yielded.Store(true) }

// Connected reports whether the hub answers.
func (c *Client) Connected() bool { return c.connected.Load() }

// Joined reports whether a hub has ever answered.
func (c *Client) Joined() bool { return c.joined.Load() }

// SetHealth tells the hub whether the application can be reached, unless it was
// told so last. It never blocks; the newest value wins.
func (c *Client) SetHealth(reachable bool, detail string) {
	h := &discoveryv1.Health{ApplicationReachable: reachable, Detail: detail}
	if last := c.lastSent.Swap(h); last == nil || last.GetApplicationReachable() != reachable || last.GetDetail() != detail {
		c.offer(h)
	}
}

// offer has the stream send h, which takes the place of what it has not sent yet.
func (c *Client) offer(h *discoveryv1.Health) {
	for {
		select {
		case c.health <- h:
			return
		default:
		}
		select {
		case <-c.health:
		default:
		}
	}
}

// Run keeps a stream to the hub until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		started := time.Now()
		err := c.stream(ctx)
		if c.yielded.Load() {
			c.connected.Store(false)
			return nil
		}
		if c.connected.Swap(false) && ctx.Err() == nil {
			c.o.Logger.Warn("discovery stream ended, running on the last known configuration", "error", err)
		}
		if time.Since(started) > 5*time.Second {
			backoff = 50 * time.Millisecond
		}
		pause := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		backoff = min(2*backoff, time.Second)
	}
	return nil
}

// stream runs one stream. When ctx ends it says goodbye, by which the hub knows
// a sidecar that leaves from one that died.
func (c *Client) stream(parent context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	defer cancel()
	stop := context.AfterFunc(parent, func() { time.AfterFunc(goodbye, cancel) })
	defer stop()
	stream, err := discoveryv1.NewDiscoveryServiceClient(c.o.Conn).Connect(ctx)
	if err != nil {
		return fmt.Errorf("open discovery stream: %w", err)
	}
	c.resources = maps.Clone(c.kept) // the hub tells again what was refused
	hello := &discoveryv1.Hello{Node: c.o.Node, ResourceVersions: c.versions()}
	if err := stream.Send(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Hello{Hello: hello}}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	if h := c.lastSent.Load(); h != nil {
		c.offer(h)
	}

	responses, failed := make(chan *discoveryv1.ConnectResponse), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()
	defer func() { cancel(); <-failed }()
	for {
		var answer *discoveryv1.ConnectRequest
		select {
		case r := <-responses:
			c.joined.Store(true)
			if !c.connected.Swap(true) {
				c.o.Logger.Info("joined the mesh", "services", len(r.GetResources()))
			}
			answer = &discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Ack{Ack: c.apply(r)}}
		case h := <-c.health:
			answer = &discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Health{Health: h}}
		case err := <-failed:
			failed <- err // for the deferred wait
			return err
		case <-parent.Done():
			if c.yielded.Load() {
				return nil
			}
			if err := stream.CloseSend(); err != nil {
				return err
			}
			err := <-failed
			failed <- err // as above
			return nil
		}
		if err := stream.Send(answer); err != nil {
			return fmt.Errorf("answer the hub: %w", err)
		}
	}
}

func (c *Client) versions() map[string]string {
	v := make(map[string]string, len(c.kept))
	for key, r := range c.kept {
		v[key] = r.GetVersion()
	}
	return v
}

// apply puts a response in force and keeps it.
func (c *Client) apply(r *discoveryv1.ConnectResponse) *discoveryv1.Acknowledgement {
	for _, res := range r.GetResources() {
		c.resources[res.GetType()+"/"+res.GetName()] = res
	}
	for _, key := range r.GetRemoved() {
		delete(c.resources, key)
	}
	c.sidecars = r.GetSidecars()
	ack := &discoveryv1.Acknowledgement{Nonce: r.GetNonce()}
	if err := c.push(); err != nil {
		ack.Error = err.Error()
		c.kept = withPoliciesOf(c.kept, c.resources)
		c.o.Logger.Error("configuration refused, the previous one stays in force", "error", err)
	} else {
		c.kept = maps.Clone(c.resources)
	}
	c.publish()
	if err := c.save(); err != nil {
		c.o.Logger.Warn("last known configuration is not kept", "file", c.o.StateFile, "error", err)
	}
	return ack
}

// withPoliciesOf is now with the policies of before: refused ones are neither
// kept on disk nor claimed on reconnect.
func withPoliciesOf(before, now map[string]*discoveryv1.Resource) map[string]*discoveryv1.Resource {
	isPolicy := func(_ string, r *discoveryv1.Resource) bool { return r.GetTrafficPolicy() != nil }
	out := maps.Clone(now)
	maps.DeleteFunc(out, isPolicy)
	for key, r := range before {
		if isPolicy(key, r) {
			out[key] = r
		}
	}
	return out
}

func (c *Client) push() error {
	var services []*discoveryv1.Service
	var policies [][]byte
	for _, r := range c.resources {
		switch {
		case r.GetService() != nil:
			services = append(services, r.GetService())
		case r.GetTrafficPolicy() != nil:
			policies = append(policies, r.GetTrafficPolicy())
		}
	}
	c.o.Applier.ApplyServices(services)
	c.o.Applier.ApplySidecars(int(c.sidecars))
	return c.o.Applier.ApplyPolicies(policies)
}

// publish makes what is in force readable for other goroutines.
func (c *Client) publish() {
	known := &discoveryv1.ConnectResponse{Sidecars: c.sidecars}
	for _, r := range c.kept {
		known.Resources = append(known.Resources, r)
	}
	c.known.Store(known)
}

func (c *Client) save() error {
	if c.o.StateFile == "" {
		return nil
	}
	b, err := protojson.Marshal(c.known.Load())
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.o.StateFile), 0o755); err != nil {
		return err
	}
	temporary := c.o.StateFile + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, c.o.StateFile)
}

func (c *Client) load() error {
	if c.o.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(c.o.StateFile)
	if err != nil {
		return err
	}
	return c.restore(b)
}

// restore puts in force what save wrote or Known returned.
func (c *Client) restore(b []byte) error {
	if !json.Valid(b) {
		return errors.New("it is not JSON")
	}
	state := &discoveryv1.ConnectResponse{}
	if err := protojson.Unmarshal(b, state); err != nil {
		return fmt.Errorf("decode state: %w", err)
	}
	for _, r := range state.GetResources() {
		c.resources[r.GetType()+"/"+r.GetName()] = r
	}
	c.kept, c.sidecars = maps.Clone(c.resources), state.GetSidecars()
	c.publish()
	return c.push()
}
