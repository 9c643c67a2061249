// Package hub is the centre of the mesh: it takes in what sidecars tell, keeps
// it, and answers for it. No request of the mesh ever waits for it.
//
//	ingest    telemetry stream: checked, logged, counted once, acknowledged
//	counters  exact sums of what sidecars counted
//	store     log of batches, sealed into segments; records found by request ID
//	graph     live graph with one-second cells; layout places its nodes
//	registry  sidecars and services; policies to the sidecars
//	metrics   /metrics, embedded TSDB, PromQL
//	trace     the hops of one request from its records
//	tap       live records
//	details   headers, attempts and decisions of single requests; orders for them
//	web       HTTP: JSON API, event streams, UI
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/files"
	"github.com/telemesh/telemesh/policy-check/lease"
	"github.com/telemesh/telemesh/telemetry-hub/bucket"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
	"github.com/telemesh/telemesh/telemetry-hub/details"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
	"github.com/telemesh/telemesh/telemetry-hub/ingest"
	"github.com/telemesh/telemesh/telemetry-hub/layout"
	"github.com/telemesh/telemesh/telemetry-hub/metrics"
	"github.com/telemesh/telemesh/telemetry-hub/registry"
	"github.com/telemesh/telemesh/telemetry-hub/store"
	"github.com/telemesh/telemesh/telemetry-hub/tap"
	"github.com/telemesh/telemesh/telemetry-hub/web"
	ui "github.com/telemesh/telemesh/topology-ui"
)

// grace is how long the hub waits for streams at its end.
const grace = 3 * time.Second

// Hub is one hub. Create it with New, then call Run once.
type Hub struct {
	config  Config
	log     *slog.Logger
	started time.Time

	http, grpc net.Listener
	lock       *os.File

	state    *counters.State
	store    *store.Store
	graph    *graph.Graph
	feeds    *graph.Feeds
	layout   *layout.Layout
	registry *registry.Registry
	policies *files.Directory
	leases   *lease.Server
	envoy    envoy
	ingest   *ingest.Server
	tap      tap.Tap
	kept     *details.Store
	details  *details.Collector
	metrics  *prometheus.Registry
	database *metrics.Database
	handler  http.Handler

	// damaged counts the files beside the record store that New found damaged.
	damaged uint64
}

// New binds the listeners, opens the data directory and restores what it
// holds; nothing is served before Run.
func New(c Config, log *slog.Logger) (*Hub, error) {
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	h := &Hub{config: c, log: log, started: time.Now(), state: counters.New()}
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *Hub) open() error {
	c := h.config
	if err := os.MkdirAll(c.DataDir, 0o755); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	var err error
	if h.lock, err = lockDir(c.DataDir); err != nil {
		return err
	}
	if h.http, err = net.Listen("tcp", c.HTTPAddress); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if h.grpc, err = net.Listen("tcp", c.GRPCAddress); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if h.layout, err = layout.New(filepath.Join(c.DataDir, "layout.json"), time.Now); err != nil {
		h.damaged++
		h.log.Warn("remembered layout is unusable, a new one begins", "error", err)
	}
	h.registry = registry.New(registry.Options{
		File: filepath.Join(c.DataDir, "sidecars.json"), Now: time.Now, Logger: h.log,
		Gone:    func(instance string) { h.graph.Forget(instance) },
		Damaged: func() { h.damaged++ },
	})
	h.graph = graph.New(graph.Options{
		Registry: presence{h.registry, h}, Layout: h.layout, Records: h.records, RecordsLost: h.recordsLost,
	})
	h.feeds = graph.NewFeeds(h.graph)
	if err := h.openStore(); err != nil {
		return err
	}
	return h.openServices()
}

// openStore replays the log into counters and graph.
func (h *Hub) openStore() error {
	began := time.Now()
	var batches int
	remote, err := h.openBucket()
	if err != nil {
		return err
	}
	h.store, err = store.Open(store.Options{
		Remote: remote,
		Dir:    h.recordsDir(), RetentionBytes: h.config.RetentionBytes, RetentionAge: h.config.RetentionAge,
		KeepFailed: h.config.RetentionFailed, Slow: h.config.RetentionSlow,
		FileBytes: h.config.SealBytes, SealAfter: h.config.SealAfter, Checkpoint: h.state.Export, Logger: h.log,
	},
		func(b *telemetryv1.Batch) { h.graph.Restore(h.state.Apply(b)) },
		func(b *telemetryv1.Batch) { h.graph.Apply(b, h.state.Apply(b)); batches++ })
	if err != nil {
		return err
	}
	h.log.Info("record store open", "batches", batches, "records", h.store.Stats().Records, "took", time.Since(began))
	return nil
}

// openBucket opens the bucket that the store's segments go to, if there is one.
func (h *Hub) openBucket() (*store.Remote, error) {
	c := h.config.Bucket
	if c.File == "" {
		return nil, nil
	}
	config, err := os.ReadFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("--bucket-config: %w", err)
	}
	if c.Hub == "" {
		if c.Hub, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the hub's name in the bucket: %w: give it one with --hub-name", err)
		}
	}
	remote, err := store.OpenRemote(context.Background(), store.RemoteOptions{
		Config: config, Dir: h.recordsDir(), Hub: c.Hub, CacheDir: filepath.Join(h.config.DataDir, "bucket-cache"), CacheBytes: c.CacheBytes,
		Durable: c.Durability == durableBucket, UploadAfter: c.UploadAfter, Poll: c.Poll, Lease: c.Lease,
		Retention: bucket.RetentionOptions{MaxAge: c.RetentionAge, MaxBytes: c.RetentionBytes}, Logger: h.log,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	return remote, nil
}

func (h *Hub) recordsDir() string { return filepath.Join(h.config.DataDir, "records") }

func (h *Hub) openServices() error {
	c := h.config
	h.metrics = metrics.NewRegistry(h.state, source{h})
	metrics.RegisterBucket(h.metrics, h.store.Remote)
	var err error
	h.ingest, err = ingest.New(ingest.Options{Log: h.store, State: h.state, Accept: h.accept, MemoryLimit: c.MemoryLimit, Logger: h.log}, h.metrics)
	if err != nil {
		return err
	}
	h.kept, err = details.Open(details.StoreOptions{Dir: filepath.Join(c.DataDir, "details"), Bytes: c.DetailBytes, Logger: h.log})
	if err != nil {
		return err
	}
	h.details = details.NewCollector(details.Options{Store: h.kept, Order: h.ingest.Order, Logger: h.log}, h.metrics)
	h.leases = lease.NewServer(lease.ServerOptions{Logger: h.log})
	h.openEnvoy()
	if c.PolicyDir != "" {
		h.policies = files.NewDirectory(c.PolicyDir, h.log)
		if err := h.policies.Load(); err != nil {
			h.log.Error("some policy files are refused, the others are in force", "error", err)
		}
		h.applyPolicies()
	}
	h.database, err = metrics.OpenDatabase(filepath.Join(c.DataDir, "metrics"), c.MetricsRetention, h.metrics, h.log)
	if err != nil {
		return err
	}
	h.damaged += h.database.Damages()
	h.handler = web.Handler(web.Options{
		Graph: h.graph, Feeds: h.feeds, Store: h.store, Tap: &h.tap, Details: h.details, Metrics: metrics.NewAPI(h.database, h.log),
		Gatherer: h.metrics, Registry: h.metrics, Status: h.Status, Policies: h.policyList, Tidy: h.tidy, UI: ui.Handler(), Logger: h.log,
	})
	return nil
}

// accept sees every new batch in the order of the log.
func (h *Hub) accept(a ingest.Accepted) {
	h.graph.Apply(a.Batch, a.Deltas)
	h.tap.Show(a.Batch, a.Columns)
	h.details.Accept(a)
}

func (h *Hub) records() uint64 { return h.store.Stats().Records }

func (h *Hub) recordsLost() uint64 {
	var n uint64
	for _, d := range h.state.Dropped() {
		n += d.Count
	}
	return n
}

func (h *Hub) tidy() {
	g := h.graph.Snapshot(graph.Seconds)
	in := layout.Graph{}
	for _, n := range g.Nodes {
		in.Nodes = append(in.Nodes, n.ID)
	}
	for _, e := range g.Edges {
		in.Edges = append(in.Edges, [2]string{e.Source, e.Destination})
	}
	h.layout.Tidy(in)
}

// applyPolicies gives the directory's policies to the leases and the sidecars.
func (h *Hub) applyPolicies() {
	var policies []*policy.TrafficPolicy
	var distributed []registry.Policy
	snapshot := h.policies.Snapshot()
	for _, l := range snapshot.Access {
		distributed = append(distributed, registry.Policy{ID: l.Resource.ID(), Version: l.Resource.Version(), Canonical: l.Resource.Canonical()})
	}
	for _, l := range snapshot.Policies {
		policies = append(policies, l.Policy)
		distributed = append(distributed, registry.Policy{ID: l.Policy.ID(), Version: l.Policy.Version(), Canonical: l.Policy.Canonical()})
	}
	// The leases first: a sidecar must not ask for a limit the hub does not know.
	h.leases.SetPolicies(policies)
	h.registry.SetPolicies(distributed)
	h.envoy.setPolicies(policies, h.log)
}

// HTTPAddress is the bound host:port of UI and APIs.
func (h *Hub) HTTPAddress() string { return h.http.Addr().String() }

// GRPCAddress is the bound host:port of the sidecars' streams.
func (h *Hub) GRPCAddress() string { return h.grpc.Addr().String() }

// Run serves until ctx ends. It stops in the order refuse, drain, flush, close
// and returns when everything has ended.
func (h *Hub) Run(ctx context.Context) error {
	storage, stopStorage := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStorage()
	below, storage := errgroup.WithContext(storage)
	below.Go(func() error { return h.ingest.Run(storage) })
	below.Go(func() error { return h.database.Run(storage) })
	below.Go(func() error { return h.store.Run(storage) })
	below.Go(func() error { return h.details.Run(storage) })

	// A hub without storage must not go on answering.
	ctx, stopServing := context.WithCancel(ctx)
	defer stopServing()
	defer context.AfterFunc(storage, stopServing)()

	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error { return h.serveGRPC(ctx) })
	serving.Go(func() error { return h.serveHTTP(ctx) })
	serving.Go(func() error { return h.feeds.Run(ctx) })
	serving.Go(func() error { return h.housekeep(ctx) })
	if h.policies != nil {
		serving.Go(func() error { return h.policies.Run(ctx) })
		serving.Go(func() error { return h.followPolicies(ctx) })
	}
	h.envoy.run(ctx, serving)
	h.log.Info("hub started", "http", h.HTTPAddress(), "grpc", h.GRPCAddress(), "data", h.config.DataDir)

	err := serving.Wait()
	stopStorage()
	err = errors.Join(err, below.Wait(), h.layout.Save(), h.store.Close(), h.kept.Close(), h.lock.Close())
	h.log.Info("hub stopped")
	return err
}

// senderWindow is what a sidecar may have on its way to the hub: some twenty full
// batches, or at least one where memory is short, because a hub that does not read
// holds so much of every sidecar. It is fixed, because measuring whether it should
// grow takes a ping for each batch, for which an idle sidecar would wake up.
func senderWindow(memoryLimit int64) int32 {
	const least, most = 128 << 10, 1 << 20
	if memoryLimit <= 0 {
		return most
	}
	return int32(min(max(memoryLimit/1024, least), most))
}

func (h *Hub) serveGRPC(ctx context.Context) error {
	window := senderWindow(h.config.MemoryLimit)
	s := grpc.NewServer(
		ingest.Codec(), grpc.MaxRecvMsgSize(ingest.MaxBatchBytes),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
		// A machine that is gone is noticed, and one that is only busy is not cut off:
		// its sidecar would send again what it had sent.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 15 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	telemetryv1.RegisterTelemetryServiceServer(s, h.ingest)
	discoveryv1.RegisterDiscoveryServiceServer(s, h.registry)
	policyv1.RegisterLeaseServiceServer(s, h.leases)
	h.envoy.register(s)
	stop := context.AfterFunc(ctx, s.Stop) // streams live as long as sidecars: there is nothing to wait for
	defer stop()
	if err := s.Serve(h.grpc); ctx.Err() == nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

func (h *Hub) serveHTTP(ctx context.Context) error {
	s := &http.Server{
		Handler: h.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx }, // event streams end with the hub
		ErrorLog:    slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(h.http) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := s.Shutdown(drain)
	if err != nil {
		err = s.Close()
	}
	<-failed
	return err
}

func (h *Hub) housekeep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.registry.Expire()
			h.graph.Snapshot(1) // nodes find their place also while nobody looks
			if err := h.layout.Save(); err != nil {
				h.log.Warn("layout is not remembered", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *Hub) followPolicies(ctx context.Context) error {
	changed, cancel := h.policies.Subscribe()
	defer cancel()
	h.applyPolicies()
	for {
		select {
		case <-changed:
			h.applyPolicies()
		case <-ctx.Done():
			return nil
		}
	}
}

// close releases what New opened before it failed.
func (h *Hub) close() error {
	var errs []error
	for _, l := range []net.Listener{h.http, h.grpc} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if h.store != nil {
		errs = append(errs, h.store.Close())
	}
	if h.kept != nil {
		errs = append(errs, h.kept.Close())
	}
	if h.lock != nil {
		errs = append(errs, h.lock.Close())
	}
	return errors.Join(errs...)
}

// Status is the hub's own state.
func (h *Hub) Status() topologyv1.Status { return status(h) }
