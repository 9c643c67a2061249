package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/proxy/detail"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// Config is what an operator writes: flags of mesh-proxy.
type Config struct {
	Service   string
	Version   string
	Namespace string
	Cluster   string
	// Workload defaults to SERVICE-VERSION, Instance to WORKLOAD-HOST-PORT.
	Workload string
	Instance string

	// AppAddress is where the application listens, host:port. Empty for a
	// workload that only calls.
	AppAddress string
	// AppProtocol is what the application speaks, http1 or http2, if not both.
	// Empty speaks with it as the caller does.
	AppProtocol string
	// ServicePort is the port under which callers know the service.
	ServicePort int

	InboundAddress  string
	OutboundAddress string
	// OutboundNetns is the path of the network namespace in which the outbound
	// listener is opened; empty for the sidecar's own. Everything else, its
	// connections to others too, stays in its own.
	OutboundNetns string
	AdminAddress  string
	// HandOver is the path of a Unix socket. A process that listens there hands
	// its listeners over; then this one waits there for the next. Empty for none.
	HandOver string
	// OutboundTCP are ports on loopback for programs whose connections cannot be
	// captured, each PORT=SERVICE:PORT; port 0 is any.
	OutboundTCP []string
	// HubAddress is the hub's gRPC address.
	HubAddress string
	// StateDir keeps the last known configuration; empty keeps none.
	StateDir string
	// DrainTime is how long the sidecar may take to end: requests in flight,
	// tunnels, and until the application is gone.
	DrainTime time.Duration
	// TrafficPolicyFile holds DestinationRules for the services that the
	// workload calls; empty means the mesh's default for all.
	TrafficPolicyFile string
	// AccessLog is the file that takes a line for every request, "-" for the
	// standard output; empty for none. AccessLogFormat is Envoy's format string,
	// "json" for Istio's JSON, empty for Istio's text.
	AccessLog       string
	AccessLogFormat string
	// DetailBytes is the memory that keeps heads, attempts and policy decisions of
	// the newest requests; 0 keeps none. RedactHeaders are header fields whose
	// values never leave the sidecar, beside those of detail.AlwaysRedacted.
	DetailBytes   int
	RedactHeaders []string
	// MaxHeaderBytes of a request head.
	MaxHeaderBytes int

	// TLSCert, TLSKey and TLSCA are PEM files: the workload's certificate, with a
	// SPIFFE ID, its key, and the authority of the mesh. They are read again when
	// they change. With them the sidecar calls by mutual TLS whoever takes it.
	TLSCert, TLSKey, TLSCA string
	// Labels, each KEY=VALUE, are what access policies may select the workload by,
	// beside app and version. RootNamespace is where those for the whole mesh are.
	Labels        []string
	RootNamespace string

	// InboundTLS is what the inbound listener takes: off, permissive (mutual TLS
	// and plain text) or strict. Empty is permissive with a certificate and off
	// without.
	InboundTLS string
}

// What an inbound listener takes (Istio's PeerAuthentication modes).
const (
	tlsOff        = "off"
	tlsPermissive = "permissive"
	tlsStrict     = "strict"
)

// fieldName is a header field's (RFC 9110, section 5.6.2).
var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// appProtocols are the values of AppProtocol.
var appProtocols = map[string]exchange.Protocol{"": exchange.Same, "http1": exchange.HTTP1, "http2": exchange.HTTP2}

// setDefaults fills what was left empty.
func (c *Config) setDefaults() {
	setDefault(&c.Version, "latest")
	setDefault(&c.Namespace, "default")
	setDefault(&c.Cluster, "local")
	setDefault(&c.Workload, c.Service+"-"+c.Version)
	setDefault(&c.InboundAddress, "127.0.0.1:15006")
	setDefault(&c.OutboundAddress, "127.0.0.1:15001")
	setDefault(&c.AdminAddress, "127.0.0.1:15000")
	setDefault(&c.RootNamespace, "istio-system")
	setDefault(&c.HubAddress, "127.0.0.1:15010")
	if c.TLSCert != "" {
		setDefault(&c.InboundTLS, tlsPermissive)
	}
	setDefault(&c.InboundTLS, tlsOff)
	if c.DrainTime == 0 {
		c.DrainTime = 5 * time.Second
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 64 << 10
	}
	if _, port, err := net.SplitHostPort(c.AppAddress); err == nil && c.ServicePort == 0 {
		c.ServicePort, _ = strconv.Atoi(port) // validate has the last word
	}
}

// setInstance names the sidecar by where it listens, which is stable over its
// restarts as long as the address is.
func (c *Config) setInstance(inbound net.Addr) {
	if c.Instance != "" {
		return
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(inbound.String())
	c.Instance = fmt.Sprintf("%s-%s-%s", c.Workload, host, port)
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// validate names every field that is wrong.
func (c *Config) validate() error {
	var errs []error
	if c.Service == "" {
		errs = append(errs, errors.New("--service: a name is required"))
	}
	if c.AppAddress != "" {
		if _, _, err := net.SplitHostPort(c.AppAddress); err != nil {
			errs = append(errs, fmt.Errorf("--app-address %q: want host:port", c.AppAddress))
		}
	}
	if _, ok := appProtocols[c.AppProtocol]; !ok {
		errs = append(errs, fmt.Errorf("--app-protocol %q: want http1 or http2", c.AppProtocol))
	}
	if c.ServicePort < 0 || c.ServicePort > 65535 {
		errs = append(errs, fmt.Errorf("--service-port %d: want 1 to 65535", c.ServicePort))
	}
	for _, f := range []struct{ flag, address string }{
		{"--inbound-address", c.InboundAddress}, {"--outbound-address", c.OutboundAddress},
		{"--admin-address", c.AdminAddress}, {"--hub", c.HubAddress},
	} {
		if _, _, err := net.SplitHostPort(f.address); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: want host:port", f.flag, f.address))
		}
	}
	errs = append(errs, c.validateTLS())
	if c.MaxHeaderBytes < 1<<10 || c.MaxHeaderBytes > 1<<20 {
		errs = append(errs, fmt.Errorf("--max-header-bytes %d: want 1024 to 1048576", c.MaxHeaderBytes))
	}
	if c.DetailBytes != 0 && c.DetailBytes < detail.MinBytes {
		errs = append(errs, fmt.Errorf("--detail-bytes %d: want at least %d, or 0 to keep no details", c.DetailBytes, detail.MinBytes))
	}
	for _, name := range c.RedactHeaders {
		if !fieldName.MatchString(name) {
			errs = append(errs, fmt.Errorf("--redact-header %q: want the name of a header field, such as x-session-token", name))
		}
	}
	for _, l := range c.Labels {
		if key, _, ok := strings.Cut(l, "="); !ok || key == "" {
			errs = append(errs, fmt.Errorf("--label %q: want KEY=VALUE", l))
		}
	}
	if _, err := parseAllOutboundTCP(c.OutboundTCP); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Config) validateTLS() error {
	named := 0
	for _, file := range []string{c.TLSCert, c.TLSKey, c.TLSCA} {
		if file != "" {
			named++
		}
	}
	switch {
	case named != 0 && named != 3:
		return errors.New("--tls-cert, --tls-key, --tls-ca: want all three or none")
	case c.InboundTLS != tlsOff && c.InboundTLS != tlsPermissive && c.InboundTLS != tlsStrict:
		return fmt.Errorf("--inbound-tls %q: want off, permissive or strict", c.InboundTLS)
	case c.InboundTLS != tlsOff && named == 0:
		return fmt.Errorf("--inbound-tls %s: needs --tls-cert, --tls-key and --tls-ca", c.InboundTLS)
	}
	return nil
}
