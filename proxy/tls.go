package proxy

import (
	"crypto/tls"
	"fmt"
	"sync"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/proxy/engine"
	"github.com/telemesh/telemesh/proxy/route"
	"github.com/telemesh/telemesh/proxy/tlsfiles"
)

// openTLS reads the workload's certificate, if it has one.
func (p *Proxy) openTLS() error {
	c := p.config
	if c.TLSCert == "" {
		return nil
	}
	files := tlsfiles.Files{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSCA}
	source, err := tlsfiles.New(tlsfiles.Options{Files: files, Logger: p.log})
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key, --tls-ca: %w", err)
	}
	if source.Principal() == "" {
		return fmt.Errorf("--tls-cert %s: no SPIFFE ID in it; want one URI name as spiffe://cluster.local/ns/default/sa/%s", c.TLSCert, c.Service)
	}
	p.tls = source
	return nil
}

// inboundTLS is what the inbound listener does with TLS; nil for plain text only.
func (p *Proxy) inboundTLS() (*engine.TLS, error) {
	if p.config.InboundTLS == tlsOff {
		return nil, nil
	}
	config, err := p.tls.Server(tlsfiles.Mutual, nil)
	if err != nil {
		return nil, fmt.Errorf("--inbound-tls: %w", err)
	}
	return &engine.TLS{Config: config, Strict: p.config.InboundTLS == tlsStrict}, nil
}

// originator makes the configurations with which this sidecar calls others; nil
// without a certificate. An endpoint without a principal is never called by
// mutual TLS: nobody could say whom it has reached.
func (p *Proxy) originator() route.Originator {
	if p.tls == nil {
		return nil
	}
	var mu sync.Mutex // guards the map below
	made := make(map[string]*tls.Config)
	return func(principal string) *tls.Config {
		if principal == "" {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if c := made[principal]; c != nil {
			return c
		}
		c, err := p.tls.Client(tlsfiles.Peer{Principals: []string{principal}}, nil)
		if err != nil { // no CA, which openTLS has seen to
			p.log.Error("mutual TLS is not possible", "principal", principal, "error", err)
			return nil
		}
		made[principal] = c
		return c
	}
}

// nodeTLS is what callers are told of the inbound listener.
func (p *Proxy) nodeTLS() (mode discoveryv1.InboundTLS, principal string) {
	if p.tls == nil {
		return discoveryv1.InboundTLS_INBOUND_TLS_NONE, ""
	}
	switch p.config.InboundTLS {
	case tlsStrict:
		mode = discoveryv1.InboundTLS_INBOUND_TLS_STRICT
	case tlsPermissive:
		mode = discoveryv1.InboundTLS_INBOUND_TLS_PERMISSIVE
	}
	return mode, p.tls.Principal()
}
