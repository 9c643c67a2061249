package engine

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tlsfiles"
)

// handshakeTime bounds the wait for a connection's first byte where TLS may
// come, and the handshake itself.
const handshakeTime = 10 * time.Second

// TLS is what a listener does with TLS.
type TLS struct {
	// Config ends TLS on connections that begin with a ClientHello.
	Config *tls.Config
	// Strict refuses plain text.
	Strict bool
}

// recordHandshake is the first byte of a ClientHello's record (RFC 8446, section
// 5.1). No protocol that a sidecar speaks begins with it.
const recordHandshake = 0x16

// secure ends TLS on a connection that begins with it, and notes who called. It
// reports false for a connection that is not to be served.
func (e *Engine) secure(ctx context.Context, c *netio.Conn, facts *http1.ConnFacts) (*netio.Conn, bool) {
	_ = c.SetReadDeadline(time.Now().Add(handshakeTime))
	first, err := c.First()
	if err != nil {
		return c, false
	}
	_ = c.SetReadDeadline(time.Time{})
	if first != recordHandshake {
		if e.o.TLS.Strict {
			e.o.ProtocolError("plaintext")
		}
		return c, !e.o.TLS.Strict
	}
	secured, err := tlsfiles.Handshake(ctx, c, e.o.TLS.Config, handshakeTime)
	if err != nil {
		e.o.ProtocolError("tls_handshake")
		e.o.Logger.Debug("TLS handshake failed", "downstream", facts.Downstream, "error", err)
		return c, false
	}
	state := secured.ConnectionState()
	facts.TLS, facts.Principal = &state, tlsfiles.Principal(&state)
	return netio.New(secured, nil), true
}

// dialer opens upstream connections, over TLS if the target wants it, for one
// protocol in ALPN's words.
func (e *Engine) dialer(protocol string) func(ctx context.Context, t exchange.Target) (net.Conn, error) {
	return func(ctx context.Context, t exchange.Target) (net.Conn, error) {
		c, err := e.dial(ctx, t)
		if err != nil || t.TLS == nil {
			return c, err
		}
		return originate(ctx, c, t.TLS, protocol)
	}
}

// originate begins TLS on a connection that the sidecar made. On an error it is
// closed.
func originate(ctx context.Context, c net.Conn, config *tls.Config, protocol string) (net.Conn, error) {
	config = config.Clone()
	config.NextProtos = []string{protocol}
	secured := tls.Client(c, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = c.Close() // of no use
		return nil, fmt.Errorf("TLS handshake with %s: %w", c.RemoteAddr(), err)
	}
	if got := secured.ConnectionState().NegotiatedProtocol; got != protocol && (got != "" || protocol == "h2") {
		_ = c.Close() // of no use
		return nil, fmt.Errorf("TLS handshake with %s: it speaks %q, want %q", c.RemoteAddr(), got, protocol)
	}
	return secured, nil
}
