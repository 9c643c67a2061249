package proxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/telemesh/telemesh/proxy/engine"
)

// maxOutboundTCP bounds the listeners of --outbound-tcp: each is a socket.
const maxOutboundTCP = 256

// outboundTCP is one --outbound-tcp: a port on loopback whose connections all go
// to one service, whatever they speak.
type outboundTCP struct {
	port int    // 0 for any
	host string // SERVICE:PORT
}

// parseOutboundTCP reads PORT=SERVICE:PORT.
func parseOutboundTCP(s string) (outboundTCP, error) {
	local, host, ok := strings.Cut(s, "=")
	port, err := strconv.ParseUint(local, 10, 16)
	if !ok || err != nil {
		return outboundTCP{}, errors.New("want PORT=SERVICE:PORT, as 5432=db:5432")
	}
	service, remote, err := net.SplitHostPort(host)
	if err != nil || !serviceName(service) {
		return outboundTCP{}, fmt.Errorf("%q is not SERVICE:PORT", host)
	}
	if n, err := strconv.ParseUint(remote, 10, 16); err != nil || n == 0 {
		return outboundTCP{}, fmt.Errorf("port %q of service %s: want 1 to 65535", remote, service)
	}
	return outboundTCP{int(port), host}, nil
}

// serviceName reports whether s can be a service's name, short or qualified.
func serviceName(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for _, c := range s {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// parseAllOutboundTCP reads all of them and names each that is wrong.
func parseAllOutboundTCP(list []string) ([]outboundTCP, error) {
	if len(list) > maxOutboundTCP {
		return nil, fmt.Errorf("--outbound-tcp is given %d times, want at most %d", len(list), maxOutboundTCP)
	}
	var errs []error
	out := make([]outboundTCP, 0, len(list))
	taken := make(map[int]bool)
	for _, s := range list {
		o, err := parseOutboundTCP(s)
		if err == nil && o.port != 0 && taken[o.port] {
			err = fmt.Errorf("port %d is given twice", o.port)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--outbound-tcp %q: %w", s, err))
			continue
		}
		taken[o.port] = true
		out = append(out, o)
	}
	return out, errors.Join(errs...)
}

// listenOutboundTCP opens the ports, where the workload's program is.
func (p *Proxy) listenOutboundTCP() error {
	all, err := parseAllOutboundTCP(p.config.OutboundTCP)
	if err != nil {
		return err
	}
	for _, o := range all {
		l, err := p.open("outbound-tcp "+o.host, net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)), p.config.OutboundNetns)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", o.host, err)
		}
		p.opaque = append(p.opaque, engine.Opaque{Listener: l, Host: o.host})
	}
	return nil
}

// OutboundTCP lists the ports of --outbound-tcp as they are bound, each with the
// service that its connections go to, in the order in which they were given.
func (p *Proxy) OutboundTCP() []OutboundTCP {
	out := make([]OutboundTCP, 0, len(p.opaque))
	for _, o := range p.opaque {
		out = append(out, OutboundTCP{Address: o.Listener.Addr().String(), Host: o.Host})
	}
	return out
}

// OutboundTCP is a listener whose connections all go to one service.
type OutboundTCP struct {
	Address string `json:"address"` // host:port on loopback
	Host    string `json:"host"`    // SERVICE:PORT
}
