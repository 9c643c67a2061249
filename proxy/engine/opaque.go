package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/telemesh/telemesh/proxy/detect"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tcp"
)

// Opaque is a listener whose connections all go to one service, whatever they
// speak: for programs whose connections cannot be captured.
type Opaque struct {
	Listener net.Listener // the engine owns it once Run is called
	Host     string       // the service and its port
}

// acceptAll accepts at every listener. The channel has room for, and gets, an error
// from each when it ends.
func (e *Engine) acceptAll(ctx context.Context) chan error {
	failed := make(chan error, 1+len(e.o.Opaque))
	go func() { failed <- e.accept(e.o.Listener, func(c net.Conn) { e.serve(ctx, c) }) }()
	for _, o := range e.o.Opaque {
		go func() { failed <- e.accept(o.Listener, func(c net.Conn) { e.serveOpaque(ctx, c, o.Host) }) }()
	}
	return failed
}

// closeListeners refuses new connections. Nothing is lost with it.
func (e *Engine) closeListeners() {
	_ = e.o.Listener.Close()
	for _, o := range e.o.Opaque {
		_ = o.Listener.Close()
	}
}

func (e *Engine) serveOpaque(ctx context.Context, c net.Conn, host string) {
	e.tcp.Serve(ctx, netio.New(c, nil), tcp.Facts{Downstream: c.RemoteAddr().String(), Host: host})
}

const (
	// virtualSilence is how long a caller has for its first byte on the way to a
	// virtual address, before its connection is taken for one on which the server
	// speaks first. The server cannot be listened to meanwhile: which endpoint
	// serves the connection is known only with what is asked for.
	virtualSilence = time.Second
	// greetingTime is within what a server that speaks first does so. One that
	// speaks later may be giving up a silent caller, as HTTP's do with 408.
	greetingTime = 2 * time.Second
)

// serveVirtual finds out what a connection speaks that was on its way to a
// service's virtual address. Nobody is there, so no connection goes there.
func (e *Engine) serveVirtual(ctx context.Context, c *netio.Conn, facts http1.ConnFacts) {
	found, err := detect.Detect(ctx, c, detect.Options{
		Destination: facts.OriginalDestination, Memory: e.learned, Timeout: virtualSilence,
	})
	silent := errors.Is(err, detect.ErrSilent)
	switch {
	case err != nil && !silent:
		_ = c.Close() // it has left
	case silent || found.Protocol == exchange.TCP:
		began := netio.Now()
		e.tcp.Serve(ctx, c, tcp.Facts{
			Downstream: facts.Downstream, OriginalDestination: facts.OriginalDestination, SNI: found.SNI,
			Greeted: func() {
				if netio.Now()-began < int64(greetingTime) {
					e.learned.ServerSpeaksFirst(facts.OriginalDestination)
				}
			},
		})
	default:
		e.http1.Serve(ctx, c, facts)
	}
}

// tunnel implements tcp.Options.Tunnel by CONNECT.
func (e *Engine) tunnel(ctx context.Context, c *netio.Conn, x *exchange.Exchange) (status int, err error) {
	var fields []exchange.Field
	if f, ok := x.Request.(*exchange.Fields); ok {
		fields = f.All()
	}
	status, header, err := http1.Connect(ctx, c, authority(x), fields, e.o.MaxHeaderBytes)
	if http1.IsMalformed(err) {
		err = fmt.Errorf("%w: %w", tcp.ErrNotATunnel, err)
	}
	if err == nil {
		x.Response = header
	}
	return status, err
}

// authority names the service as the mesh does, with the port that the caller
// asked for, or 0 if it said none: the other sidecar knows its application's.
func authority(x *exchange.Exchange) string {
	host, port, err := net.SplitHostPort(x.Record.Host)
	if err != nil {
		host, port = x.Record.Host, strconv.Itoa(int(x.OriginalDestination.Port()))
	}
	if x.DestinationService != "" {
		host = x.DestinationService
	}
	return net.JoinHostPort(host, port)
}
