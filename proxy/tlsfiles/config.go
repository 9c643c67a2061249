package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Mode is what a server asks of its callers.
type Mode uint8

const (
	// Simple is TLS in which only the server has a certificate.
	Simple Mode = iota
	// Mutual is TLS in which the caller must have one too, signed by the CA.
	Mutual
)

var protocols = []string{"h2", "http/1.1"}

// Server is the configuration of a listener. Every handshake uses the files as
// they are then. protocols are offered by ALPN; nil means h2 and http/1.1.
func (s *Source) Server(mode Mode, offered []string) (*tls.Config, error) {
	m := s.current.Load()
	if m.certificate == nil {
		return nil, errors.New("a TLS server needs a certificate and a key")
	}
	if mode == Mutual && m.roots == nil {
		return nil, errors.New("mutual TLS needs a CA to check callers with")
	}
	if offered == nil {
		offered = protocols
	}
	base := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: offered,
		// A resumed session would carry a caller over that the CA of today does
		// not know. Mesh connections live long, so a full handshake is rare.
		SessionTicketsDisabled: mode == Mutual,
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.current.Load()
		c := base.Clone()
		c.GetConfigForClient = nil
		c.Certificates = []tls.Certificate{*m.certificate}
		if mode == Mutual {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.roots
		}
		return c, nil
	}
	return base, nil
}

// Peer is whom a client expects.
type Peer struct {
	// Name is checked against the certificate and sent as SNI. It is only sent if
	// Principals are given.
	Name string
	// Principals are the SPIFFE IDs that the server may have.
	Principals []string
}

// Client is the configuration of upstream connections to a peer. Every
// handshake uses the files as they are then. offered is its ALPN.
func (s *Source) Client(peer Peer, offered []string) (*tls.Config, error) {
	if s.current.Load().roots == nil {
		return nil, errors.New("a TLS client needs a CA to check servers with")
	}
	if peer.Name == "" && len(peer.Principals) == 0 {
		return nil, errors.New("a TLS client needs the name or the principals of its server")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: peer.Name, NextProtos: offered,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := s.current.Load().certificate; c != nil {
				return c, nil
			}
			return new(tls.Certificate), nil // none, which the server may accept
		},
		// RootCAs would be those of now for ever, so VerifyConnection does the
		// whole check itself.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verify(state.PeerCertificates, s.current.Load().roots, peer)
		},
	}, nil
}

// verify checks a server's chain, then who it is.
func verify(chain []*x509.Certificate, roots *x509.CertPool, peer Peer) error {
	if len(chain) == 0 {
		return errors.New("the server has no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	if len(peer.Principals) == 0 {
		o.DNSName = peer.Name
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return err
	}
	if id := principal(chain[0]); len(peer.Principals) > 0 && !slices.Contains(peer.Principals, id) {
		return fmt.Errorf("the server is %q, want one of %q", id, peer.Principals)
	}
	return nil
}

// Principal is the SPIFFE ID of the other end; empty if it has no certificate
// or the certificate has no ID. Only of a connection whose certificates were
// verified.
func Principal(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	return principal(state.PeerCertificates[0])
}

// principal takes the one URI of a certificate; a certificate with several is no
// SPIFFE one (X.509-SVID, section 2).
func principal(c *x509.Certificate) string {
	if len(c.URIs) != 1 || !isSPIFFE(c.URIs[0]) {
		return ""
	}
	return c.URIs[0].String()
}

const maxID = 2048

// isSPIFFE checks an ID's form (SPIFFE-ID, section 2).
func isSPIFFE(u *url.URL) bool {
	if u.Scheme != "spiffe" || u.Host == "" || u.User != nil || u.Port() != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.ForceQuery {
		return false
	}
	text := u.String()
	return len(text) <= maxID && !strings.ContainsAny(text, "%\x00") && !strings.HasSuffix(u.Path, "/") && !strings.Contains(u.Path, "//")
}
