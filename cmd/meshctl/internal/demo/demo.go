// Package demo runs the whole mesh on one machine: a hub, Bookinfo's six
// services behind sidecars, and a load. All are real processes on real sockets.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
)

// Options of a demo.
type Options struct {
	// Duration of the load; 0 means until ctx ends.
	Duration time.Duration
	// JSON prints the Result as the last line.
	JSON bool
	// Chaos kills one part in the middle and starts it again: hub, sidecar,
	// service, or empty.
	Chaos string
	// Rate of requests a second to productpage.
	Rate float64
	// HTTP2 has the services call each other over HTTP/2.
	HTTP2 bool
	// Mixed has the services call each other over HTTP/1.1, HTTP/2, gRPC and plain
	// TCP, each edge another protocol.
	Mixed bool
	// Fault of ratings, as in bookinfo ratings --fault.
	Fault                    string
	PolicyDir                string
	HTTPAddress, GRPCAddress string
	// DataDir keeps data and logs; empty means a temporary one that goes with
	// the demo.
	DataDir string
	// ReadyFile gets the addresses as JSON once everything runs.
	ReadyFile   string
	Out, ErrOut io.Writer
}

// Ready is what ReadyFile holds.
type Ready struct {
	UI          string `json:"ui"`
	Hub         string `json:"hub"`
	GRPC        string `json:"grpc"`
	Productpage string `json:"productpage"`
	RequestID   string `json:"requestId"`
	// Direct addresses of the services, past their sidecars, by workload.
	Services map[string]string `json:"services"`
	// Sidecars' admin addresses and process IDs by workload.
	Admins map[string]string `json:"admins"`
	PIDs   map[string]int    `json:"pids"`
	// Outbound listener of the load's sidecar: a way into the mesh.
	Outbound string `json:"outbound"`
	Logs     string `json:"logs"`
}

// Validate names the option that is wrong.
func (o Options) Validate() error {
	switch {
	case o.Chaos != "" && o.Chaos != "hub" && o.Chaos != "sidecar" && o.Chaos != "service":
		return fmt.Errorf("--chaos %q: want hub, sidecar or service", o.Chaos)
	case o.HTTP2 && o.Mixed:
		return errors.New("--http2 and --mixed: choose one of them")
	case o.Chaos != "" && o.Duration == 0:
		return errors.New("--chaos needs a --duration: the kill comes in its middle")
	case o.JSON && o.Duration == 0:
		return errors.New("--json needs a --duration: the object is printed at the end")
	case o.Rate <= 0 || o.Rate > 5000:
		return fmt.Errorf("--rate %g: want more than 0 and at most 5000 requests a second", o.Rate)
	}
	return nil
}

const readyWithin = 20 * time.Second

// Run runs the demo until its duration is over or ctx ends, then stops every
// process it started. It fails when the counts do not agree or requests failed
// in a run without faults.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}
	dir, remove, err := workDir(o.DataDir)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			remove()
			return
		}
		err = fmt.Errorf("%w (logs are in %s)", err, dir)
	}()
	starting, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	m, err := startMesh(starting, o, dir)
	if err != nil {
		return err
	}
	defer m.stop()
	if err := ready(starting, m); err != nil {
		return err
	}
	return drive(ctx, o, m)
}

func workDir(dir string) (string, func(), error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "telemesh-demo-")
		return dir, func() { _ = os.RemoveAll(dir) }, err // a leftover in the temporary directory harms nobody
	}
	return dir, func() {}, os.MkdirAll(filepath.Join(dir, "hub"), 0o755)
}

// ready waits until every service can be reached through the mesh.
func ready(ctx context.Context, m *mesh) error {
	for {
		var s topologyv1.Status
		if err := scrape.JSON(ctx, m.hub.URL()+"/api/mesh/v1/status", &s); err == nil && healthy(s) && routed(ctx, m) {
			return nil
		}
		if err := m.ended(); err != nil {
			return err
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the services did not all join the mesh within %s", readyWithin)
		}
	}
}

// ended names the first part that is not running any more.
func (m *mesh) ended() error {
	for _, s := range m.services {
		select {
		case <-s.process.Done():
			return fmt.Errorf("service %s-%s ended: %v", s.name, s.version, s.process.Err())
		default:
		}
	}
	return nil
}

func healthy(s topologyv1.Status) bool {
	endpoints := 0
	for _, one := range s.Services {
		endpoints += one.Healthy
	}
	return endpoints == len(bookinfo) && len(s.Sidecars) == len(bookinfo)+1
}

// routed reports whether every sidecar knows where all services are, which is an
// instant after the hub does. A request before that would be one for outside the
// mesh, and be missing on its edge.
func routed(ctx context.Context, m *mesh) bool {
	for _, admin := range m.admins() {
		var clusters []struct {
			Endpoints []struct{ Healthy bool }
		}
		if err := scrape.JSON(ctx, "http://"+admin+"/clusters", &clusters); err != nil {
			return false
		}
		healthy := 0
		for _, c := range clusters {
			for _, e := range c.Endpoints {
				if e.Healthy {
					healthy++
				}
			}
		}
		if healthy != len(bookinfo) {
			return false
		}
	}
	return true
}

// drive runs load and chaos and accounts for both.
func drive(ctx context.Context, o Options, m *mesh) error {
	var hurt atomic.Bool // the hub was killed on purpose
	l := newLoad(m.load.Outbound, m.hub.URL(), o, hurt.Load)
	loading, stop := ctx, context.CancelFunc(func() {})
	if o.Duration > 0 {
		loading, stop = context.WithTimeout(ctx, o.Duration)
	}
	defer stop()
	first := firstRequest(loading, l)
	if err := announce(o, m, first); err != nil {
		return err
	}
	broken := make(chan error, 1)
	if o.Chaos != "" {
		go func() { broken <- chaos(loading, o, m, &hurt) }()
	} else {
		broken <- nil
	}
	l.run(loading)
	if err := <-broken; err != nil {
		return err
	}
	if o.Duration == 0 || ctx.Err() != nil {
		if !o.JSON {
			fmt.Fprintln(o.Out, "\nStopping every process of the demo.")
		}
		return nil
	}
	return report(ctx, o, m, l)
}

// firstRequest sends until a request comes back with all its hops answered.
func firstRequest(ctx context.Context, l *load) string {
	for ctx.Err() == nil {
		if id := l.one(ctx); id != "" {
			return id
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ""
}

// chaos kills one part at half time and starts it again a little later.
func chaos(ctx context.Context, o Options, m *mesh, hurt *atomic.Bool) error {
	if !sleep(ctx, o.Duration/2) {
		return nil
	}
	restart, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
	defer cancel()
	away := min(2*time.Second, o.Duration/6)
	list := victims(o, m, hurt)
	for _, v := range list {
		fmt.Fprintf(o.ErrOut, "chaos: SIGKILL to the %s, back in %s\n", v.name, away)
	}
	for _, v := range list {
		v.kill()
	}
	sleep(ctx, away)
	return each(list, func(v victim) error { return v.start(restart) })
}

// victim is what chaos kills and starts again.
type victim struct {
	name  string
	kill  func()
	start func(ctx context.Context) error
}

// victims are the hub, or the leaves of Bookinfo that are called in a protocol
// which another victim is not called in: ratings, and details if it has its own.
func victims(o Options, m *mesh, hurt *atomic.Bool) []victim {
	if o.Chaos == "hub" {
		return []victim{{"hub", func() { hurt.Store(true); m.hub.Process().Kill() }, m.hub.Start}}
	}
	leaves := []*service{m.find("ratings")}
	if o.Mixed {
		leaves = append(leaves, m.find("details"))
	}
	var list []victim
	for _, s := range leaves {
		name := s.name + "-" + s.version
		if o.Chaos == "sidecar" {
			list = append(list, victim{"sidecar of " + name, func() { s.sidecar.Process().Kill() }, s.sidecar.Start})
			continue
		}
		list = append(list, victim{"service " + name, func() { s.process.Kill() }, func(context.Context) error { return s.start() }})
	}
	return list
}

// each does something to all victims side by side.
func each(list []victim, do func(victim) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, v := range list {
		wg.Go(func() { errs[i] = do(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func report(ctx context.Context, o Options, m *mesh, l *load) error {
	r, err := settle(ctx, m, l, o.Chaos)
	if err != nil {
		return fmt.Errorf("account for the run: %w", err)
	}
	if o.JSON {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintln(o.Out, string(b))
	} else {
		printResult(o.Out, r)
	}
	if !r.Agree {
		return errors.New("the counts do not agree")
	}
	return nil
}
