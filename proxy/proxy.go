// Package proxy is one sidecar: it carries every request of its workload,
// decides locally, remembers exactly and tells the hub later. It serves with or
// without a hub; nothing on the request path waits for one unless a policy
// says so.
//
// The way of a request is in pipeline.go. What runs beside it:
//
//	engine     inbound and outbound listeners, forwarding
//	discovery  registration, services and policies from the hub
//	report     counters, thin records and the telemetry stream
//	detail     ring of the newest requests' heads, attempts and decisions
//	lease      credits for rate limits (policy-check)
//	admin      health, metrics, configuration
//	handover   listening sockets from the process before and to the one after
//
// How it comes to its end is in life.go.
package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/exposition"
	"github.com/telemesh/telemesh/internal/version"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/authz"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/policy-check/lease"
	"github.com/telemesh/telemesh/proxy/accesslog"
	"github.com/telemesh/telemesh/proxy/admin"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/detail"
	"github.com/telemesh/telemesh/proxy/discovery"
	"github.com/telemesh/telemesh/proxy/engine"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/handover"
	"github.com/telemesh/telemesh/proxy/identity"
	"github.com/telemesh/telemesh/proxy/jwks"
	"github.com/telemesh/telemesh/proxy/report"
	"github.com/telemesh/telemesh/proxy/route"
	"github.com/telemesh/telemesh/proxy/tlsfiles"
)

const (
	// appIdle is below the idle time of any common server, so that the
	// application never closes a connection under a request.
	appIdle = 3 * time.Second
	// meshIdle is below the inbound listener's idle time.
	meshIdle       = 30 * time.Second
	connectTimeout = time.Second
)

// Proxy is one sidecar. Create it with New, then call Run once.
type Proxy struct {
	config    Config
	epoch     uint64
	log       *slog.Logger
	level     *slog.LevelVar
	self      identity.Peer
	listeners [3]net.Listener     // inbound, outbound, admin
	opaque    []engine.Opaque     // of --outbound-tcp
	opened    []handover.Listener // all, for the next process
	taken     *handover.Taken     // from the process that this one replaces; nil without
	control   *handover.Control   // where the next one asks; nil without, and until taken is done with
	hub       *grpc.ClientConn
	life      life

	accessLog *accesslog.Log   // nil without
	tls       *tlsfiles.Source // nil without a certificate
	routes    *route.Table
	details   *detail.Details
	store     *report.Store
	checker   *check.Checker
	access    *authz.Enforcer
	leases    *lease.Client
	discovery *discovery.Client
	sender    *report.Sender
	inbound   *engine.Engine
	outbound  *engine.Engine
	registry  *prometheus.Registry
	admin     *admin.Server

	protocolErrors *prometheus.CounterVec
	app            appState
	policyVersions atomic.Pointer[map[string]string]
}

// New binds the listeners and builds the sidecar; nothing is served before
// Run. The level may be changed while it runs.
func New(c Config, log *slog.Logger, level *slog.LevelVar) (*Proxy, error) {
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &Proxy{config: c, epoch: uint64(time.Now().UnixNano()), level: level, life: newLife()}
	if err := p.takeOver(); err != nil {
		return nil, err
	}
	if err := p.listen(); err != nil {
		return nil, err
	}
	p.config.setInstance(p.listeners[0].Addr())
	c = p.config
	p.log = log.With("service", c.Service, "instance", c.Instance)
	p.self = identity.Peer{
		Cluster: c.Cluster, Namespace: c.Namespace, Workload: c.Workload, Service: c.Service, Version: c.Version, Instance: c.Instance,
	}
	if err := p.build(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *Proxy) listen() error {
	for i, address := range []string{p.config.InboundAddress, p.config.OutboundAddress, p.config.AdminAddress} {
		l, err := p.open(roles[i], address, p.netns(roles[i]))
		if err != nil {
			p.close()
			return fmt.Errorf("listen: %w", err)
		}
		p.listeners[i] = l
	}
	if err := p.listenOutboundTCP(); err != nil {
		p.close()
		return err
	}
	return nil
}

func (p *Proxy) close() {
	for _, l := range p.listeners {
		if l != nil {
			_ = l.Close() // never served
		}
	}
	for _, o := range p.opaque {
		_ = o.Listener.Close()
	}
	if p.taken != nil {
		p.taken.Close()
	}
	if p.control != nil {
		p.control.Close()
	}
	if p.hub != nil {
		_ = p.hub.Close()
	}
	if p.access != nil {
		p.access.Close()
	}
}

// hubWindow is room for what the hub says: acknowledgements, and the registry's
// changes.
const hubWindow = 1 << 20

// build creates the parts, in the order of their dependencies.
func (p *Proxy) build() error {
	c := p.config
	var err error
	p.hub, err = grpc.NewClient(c.HubAddress,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// Windows that are fixed save a ping for each batch, which would measure
		// whether they should grow.
		grpc.WithStaticStreamWindowSize(hubWindow), grpc.WithStaticConnWindowSize(hubWindow))
	if err != nil {
		return fmt.Errorf("hub address %q: %w", c.HubAddress, err)
	}
	p.details = detail.New(detail.Options{Bytes: c.DetailBytes, Redact: c.RedactHeaders})
	p.store = report.NewStoreWith(p.details)
	if p.accessLog, err = openAccessLog(c.AccessLog, c.AccessLogFormat, p.log); err != nil {
		return err
	}
	if err = p.openTLS(); err != nil {
		return err
	}
	settings, err := trafficPolicies(c.TrafficPolicyFile)
	if err != nil {
		return err
	}
	p.routes = route.NewTable(c.Namespace, c.Cluster, settings, p.originator())
	p.leases = lease.NewClient(lease.ClientOptions{Sidecar: c.Instance, Epoch: p.epoch, Logger: p.log})
	p.checker = check.New(check.Options{Namespace: c.Namespace, Service: c.Service, Leases: p.leases, Logger: p.log})
	_, principal := p.nodeTLS()
	p.access = authz.New(authz.Options{
		Workload:    authz.Workload{Namespace: c.Namespace, Service: c.Service, Labels: c.labels(), RootNamespace: c.RootNamespace},
		TrustDomain: trustDomain(principal), Fetch: jwks.Fetch, Logger: p.log,
	})
	p.policyVersions.Store(&map[string]string{})
	p.metrics()

	stateFile := ""
	if c.StateDir != "" {
		stateFile = filepath.Join(c.StateDir, c.Instance+".json")
	}
	p.discovery = discovery.NewClient(discovery.Options{
		Node: p.node(), Conn: p.hub, Applier: p, StateFile: stateFile, State: p.inherited(), Logger: p.log,
	})
	p.sender, err = report.NewSender(report.SenderOptions{
		Store: p.store, Gauges: p, Sender: c.Instance, Epoch: p.epoch, Node: p.self.Proto(), Conn: p.hub, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.admin = admin.NewServer(p, p.registry, p.level)
	return p.engines()
}

// trafficPolicies reads a file of DestinationRules; any problem refuses it.
func trafficPolicies(file string) (map[string]cluster.Settings, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--traffic-policy: %w", err)
	}
	settings, problems := cluster.ParseTrafficPolicy(file, data)
	return settings, errors.Join(problems...)
}

func (p *Proxy) engines() error {
	_, principal := p.nodeTLS()
	secure := p.self
	secure.Principal = principal
	way := &pipeline{
		accessLog: p.accessLog, self: &p.self, selfSecure: &secure, selfHeader: p.self.Header(), selfRoute: "inbound|" + p.self.Service, selfHost: p.config.Service + "." + p.config.Namespace + ".svc.cluster.local",
		access: p.access, appDestination: appDestination(p.config.AppAddress),
		appAddress: p.config.AppAddress, appSpeaks: appProtocols[p.config.AppProtocol], peers: &identity.Cache{}, routes: p.routes, policy: p.checker, store: p.store,
		appUnreachable: func(detail string) { p.setAppHealth(false, detail) },
	}
	options := engine.Options{
		Handler: way, ConnectTimeout: connectTimeout, MaxHeaderBytes: p.config.MaxHeaderBytes, Logger: p.log,
	}
	options.Direction, options.Listener, options.UpstreamIdle = exchange.Inbound, p.listeners[0], appIdle
	options.ProtocolError = func(reason string) { p.protocolErrors.WithLabelValues("inbound", reason).Inc() }
	var err error
	if options.TLS, err = p.inboundTLS(); err != nil {
		return err
	}
	p.inbound = engine.New(options)
	options.Direction, options.Listener, options.UpstreamIdle = exchange.Outbound, p.listeners[1], meshIdle
	options.TLS = nil
	options.ProtocolError = func(reason string) { p.protocolErrors.WithLabelValues("outbound", reason).Inc() }
	options.Opaque = p.opaque
	p.outbound = engine.New(options)
	return nil
}

func (p *Proxy) node() *discoveryv1.Node {
	c := p.config
	n := &discoveryv1.Node{
		Instance: c.Instance, Cluster: c.Cluster, Namespace: c.Namespace, Workload: c.Workload, Service: c.Service, Version: c.Version,
		ServicePort: uint32(c.ServicePort), AdminAddress: p.AdminAddress(), SoftwareVersion: version.String(), Epoch: p.epoch,
	}
	n.InboundTls, n.Principal = p.nodeTLS()
	if c.AppAddress != "" {
		n.InboundAddress = p.InboundAddress()
	}
	return n
}

// InboundAddress is the bound host:port for requests to the workload.
func (p *Proxy) InboundAddress() string { return p.listeners[0].Addr().String() }

// OutboundAddress is the bound host:port for requests of the workload.
func (p *Proxy) OutboundAddress() string { return p.listeners[1].Addr().String() }

// AdminAddress is the bound host:port of metrics and health.
func (p *Proxy) AdminAddress() string { return p.listeners[2].Addr().String() }

// Instance is the sidecar's name in the mesh.
func (p *Proxy) Instance() string { return p.config.Instance }

// ApplyServices implements discovery.Applier.
func (p *Proxy) ApplyServices(s []*discoveryv1.Service) {
	p.routes.Set(s)
	p.noticeWithdrawal(s)
}

// ApplySidecars implements discovery.Applier.
func (p *Proxy) ApplySidecars(n int) { p.leases.SetSidecars(n) }

// ApplyPolicies implements discovery.Applier.
func (p *Proxy) ApplyPolicies(canonical [][]byte) error {
	policies := make([]*policy.TrafficPolicy, 0, len(canonical))
	var resources []*authz.Resource
	versions := make(map[string]string, len(canonical))
	for _, b := range canonical {
		if authz.IsCanonical(b) {
			one, err := authz.Decode(b)
			if err != nil {
				return fmt.Errorf("decode access policy: %w", err)
			}
			resources = append(resources, one)
			versions[one.ID()] = one.Version()
			continue
		}
		one, err := policy.Decode(b)
		if err != nil {
			return fmt.Errorf("decode policy: %w", err)
		}
		policies = append(policies, one)
		versions[one.ID()] = one.Version()
	}
	// All or nothing: the rules take force once nothing can fail any more.
	rules, err := p.access.Compile(resources)
	if err != nil {
		return fmt.Errorf("compile access policies: %w", err)
	}
	if err := p.checker.Apply(policies); err != nil {
		return fmt.Errorf("apply policies: %w", err)
	}
	p.access.Use(rules)
	p.policyVersions.Store(&versions)
	return nil
}

// ConfigDump implements admin.Source.
func (p *Proxy) ConfigDump() any {
	return map[string]any{
		"config": p.config, "epoch": strconv.FormatUint(p.epoch, 10), "version": version.String(),
		"hubConnected": p.discovery.Connected(), "applicationReachable": p.app.reachable.Load(), "life": p.Life(), "policies": *p.policyVersions.Load(),
		"addresses":   map[string]string{"inbound": p.InboundAddress(), "outbound": p.OutboundAddress(), "admin": p.AdminAddress()},
		"outboundTCP": p.OutboundTCP(),
	}
}

// Clusters implements admin.Source.
func (p *Proxy) Clusters() any { return p.routes.Clusters() }

// metrics builds the registry that /metrics serves.
func (p *Proxy) metrics() {
	p.registry = prometheus.NewRegistry()
	p.protocolErrors = newProtocolErrors()
	p.registry.MustRegister(
		exposition.NewCollector(p.store.Snapshot),
		newGaugeCollector(p),
		p.protocolErrors,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}
