package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/workload"
	"github.com/telemesh/telemesh/internal/process"
)

// servicePort is Bookinfo's port, under which services call one another.
const servicePort = 9080

// bookinfo are the six service processes.
var bookinfo = []struct{ service, version string }{
	{"ratings", "v1"}, {"details", "v1"}, {"reviews", "v1"}, {"reviews", "v2"}, {"reviews", "v3"}, {"productpage", "v1"},
}

// Hub is a running hub process.
type Hub struct {
	HTTP, GRPC string
	o          HubOptions
	binary     string
	process    *process.Process
}

// HubOptions say how a hub is started.
type HubOptions struct {
	HTTPAddress, GRPCAddress string
	DataDir, PolicyDir       string
	Log                      io.Writer
}

// StartHub starts a hub and waits until it listens.
func StartHub(ctx context.Context, o HubOptions) (*Hub, error) {
	binary, err := process.Binary("mesh-hub")
	if err != nil {
		return nil, err
	}
	h := &Hub{o: o, binary: binary, HTTP: o.HTTPAddress, GRPC: o.GRPCAddress}
	return h, h.Start(ctx)
}

// Start starts the hub, again on the addresses it had.
func (h *Hub) Start(ctx context.Context) error {
	file := filepath.Join(h.o.DataDir, "addresses.json")
	_ = os.Remove(file) // of an earlier run
	args := []string{"--data-dir", h.o.DataDir, "--http-address", h.HTTP, "--grpc-address", h.GRPC, "--address-file", file}
	if h.o.PolicyDir != "" {
		args = append(args, "--policy-dir", h.o.PolicyDir)
	}
	var err error
	if h.process, err = process.Start(process.Spec{Name: "hub", Path: h.binary, Args: args, Output: h.o.Log}); err != nil {
		return err
	}
	addresses, err := h.process.Addresses(ctx, file)
	if err != nil {
		h.process.Stop(time.Second)
		return err
	}
	h.HTTP, h.GRPC = addresses["http"], addresses["grpc"]
	return nil
}

// Process is the running hub process.
func (h *Hub) Process() *process.Process { return h.process }

// Stop ends the hub; it syncs first.
func (h *Hub) Stop() { h.process.Stop(10 * time.Second) }

// URL of the hub's UI and API.
func (h *Hub) URL() string { return "http://" + h.HTTP }

// Free returns address, or one with a free port if somebody uses it already.
func Free(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		host, _, _ := net.SplitHostPort(address)
		return net.JoinHostPort(host, "0")
	}
	_ = l.Close() // it was free, which is all that was asked
	return address
}

// service is one Bookinfo process with its sidecar.
type service struct {
	name, version string
	port          int
	web           int // port of its HTTP, which is port unless something else is there
	args          []string
	outboundTCP   []string // of its sidecar
	binary        string
	log           io.Writer
	sidecar       *workload.Sidecar
	process       *process.Process
}

func (s *service) start() error {
	var err error
	s.process, err = process.Start(process.Spec{
		Name: s.name + "-" + s.version, Path: s.binary, Args: s.args, Env: s.sidecar.Environment(), Output: s.log,
	})
	return err
}

// direct is the service's own address, past its sidecar: for its counters and
// its fault switch.
func (s *service) direct() string { return "http://" + loopback(s.web) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// newService prepares one Bookinfo process.
func newService(o Options, binary, name, version string) (*service, error) {
	s := &service{name: name, version: version, binary: binary}
	var err error
	if s.port, err = workload.FreePort(); err != nil {
		return nil, err
	}
	s.web = s.port
	s.args = []string{name, "--version", version}
	if name == "ratings" && o.Fault != "" {
		s.args = append(s.args, "--fault", o.Fault)
	}
	switch {
	case o.HTTP2:
		s.args = append(s.args, "--http2")
	case o.Mixed:
		if err := s.mix(); err != nil {
			return nil, err
		}
	}
	s.args = append(s.args, "--listen", loopback(s.web))
	return s, nil
}

// mix has the service make its calls in another protocol than the others: the load
// calls productpage over HTTP/1.1, which calls reviews over HTTP/2 and details over
// gRPC; reviews calls ratings by what is not HTTP at all.
func (s *service) mix() error {
	other, err := workload.FreePort()
	if err != nil {
		return err
	}
	switch {
	case s.name == "productpage":
		s.args = append(s.args, "--http2", "--details-grpc")
	case s.name == "reviews" && s.version != "v1":
		s.outboundTCP = []string{fmt.Sprintf("%d=ratings:%d", other, servicePort)}
		s.args = append(s.args, "--ratings-tcp", loopback(other))
	case s.name == "ratings":
		s.web = other
		s.args = append(s.args, "--line-listen", loopback(s.port))
	}
	return nil
}

// mesh is everything that the demo runs.
type mesh struct {
	hub      *Hub
	services []*service
	load     *workload.Sidecar
	logs     []*os.File
	dir      string
}

// startMesh starts hub, sidecars and services. On an error what was started is
// stopped again.
func startMesh(ctx context.Context, o Options, dir string) (*mesh, error) {
	m := &mesh{dir: dir}
	err := m.start(ctx, o)
	if err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

func (m *mesh) start(ctx context.Context, o Options) error {
	binary, err := process.Binary("bookinfo")
	if err != nil {
		return err
	}
	hubLog, err := m.log("mesh-hub")
	if err != nil {
		return err
	}
	m.hub, err = StartHub(ctx, HubOptions{
		HTTPAddress: Free(o.HTTPAddress), GRPCAddress: Free(o.GRPCAddress), DataDir: filepath.Join(m.dir, "hub"), PolicyDir: o.PolicyDir, Log: hubLog,
	})
	if err != nil {
		return err
	}
	for _, b := range bookinfo {
		s, err := newService(o, binary, b.service, b.version)
		if err != nil {
			return err
		}
		m.services = append(m.services, s)
	}
	return m.startWorkloads(ctx)
}

// startWorkloads starts all sidecars and services side by side.
func (m *mesh) startWorkloads(ctx context.Context) error {
	errs := make([]error, len(m.services)+1)
	var wg sync.WaitGroup
	for i, s := range m.services {
		log, err := m.log(s.name + "-" + s.version)
		if err != nil {
			return err
		}
		s.log = log
		wg.Go(func() {
			s.sidecar, errs[i] = m.sidecar(ctx, s.name, s.version, s.port, log, s.outboundTCP...)
			if errs[i] == nil {
				errs[i] = s.start()
			}
		})
	}
	log, err := m.log("loadgen")
	if err != nil {
		return err
	}
	wg.Go(func() { m.load, errs[len(m.services)] = m.sidecar(ctx, "loadgen", "v1", -1, log) })
	wg.Wait()
	return errors.Join(errs...)
}

func (m *mesh) sidecar(ctx context.Context, name, version string, port int, log io.Writer, outboundTCP ...string) (*workload.Sidecar, error) {
	return workload.StartSidecar(ctx, workload.Spec{
		Service: name, Version: version, Namespace: "default", Port: port, ServicePort: servicePort, Hub: m.hub.GRPC, Dir: m.dir, Log: log,
		OutboundTCP: outboundTCP,
	})
}

// log opens a log file of the demo.
func (m *mesh) log(name string) (io.Writer, error) {
	f, err := os.OpenFile(filepath.Join(m.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	m.logs = append(m.logs, f)
	return f, nil
}

// admins are the admin addresses of all sidecars.
func (m *mesh) admins() []string {
	list := []string{m.load.Admin}
	for _, s := range m.services {
		list = append(list, s.sidecar.Admin)
	}
	return list
}

// find returns the first process of a service.
func (m *mesh) find(name string) *service {
	for _, s := range m.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

// stop ends everything in the order load, services, sidecars, hub, so that the
// last telemetry arrives.
func (m *mesh) stop() {
	var wg sync.WaitGroup
	for _, s := range m.services {
		if s.process != nil {
			wg.Go(func() { s.process.Stop(6 * time.Second) })
		}
	}
	wg.Wait()
	for _, s := range m.services {
		if s.sidecar != nil {
			wg.Go(s.sidecar.Stop)
		}
	}
	if m.load != nil {
		wg.Go(m.load.Stop)
	}
	wg.Wait()
	if m.hub != nil {
		m.hub.Stop()
	}
	for _, f := range m.logs {
		_ = f.Close() // what they hold has been written
	}
}
