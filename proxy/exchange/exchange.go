// Package exchange is one request and its answer as a sidecar sees them. The
// engine that speaks HTTP fills it in; the rest of the sidecar decides and
// observes on it and knows nothing of the engine.
package exchange

import (
	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/identity"
)

// Direction is the request's direction as the workload sees it.
type Direction uint8

// Inbound requests go to the workload, outbound requests come from it.
const (
	Inbound Direction = iota
	Outbound
)

func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}

// Header is a message's header fields, names case-insensitive. Engines give
// their own implementation.
type Header interface {
	Get(name string) string
	Set(name, value string)
	Del(name string)
}

// Field is one header field.
type Field struct{ Name, Value string }

// Reply is an answer that the sidecar gives itself.
type Reply struct {
	Status      int
	ContentType string
	Body        string
	Headers     []Field
}

// Exchange is owned by the goroutine that serves the request.
type Exchange struct {
	Direction Direction
	// Record becomes the thin record as it stands when the request ends.
	Record record.Record

	// Request is the head that goes upstream, Response the one that goes
	// downstream; nil until it exists.
	Request  Header
	Response Header

	// Scheme of the request, http or https.
	Scheme string
	// Downstream is the caller's address, host:port.
	Downstream string
	// DownstreamLocal and UpstreamLocal are this sidecar's own ends of the two
	// connections, host:port; empty if the engine does not tell.
	DownstreamLocal string
	UpstreamLocal   string
	// ServerName is what the downstream asked for by SNI.
	ServerName string
	// TransportFailure says why no connection to the upstream came about.
	TransportFailure string

	// Meshed: the other end of the downstream connection is a sidecar.
	Meshed             bool
	Source             identity.Peer
	Destination        identity.Peer
	DestinationService string // fully qualified
	Security           string // none, mutual_tls, unknown

	// Scratch holds the texts that Begin writes into the heads: views into it
	// need no allocation and end with the exchange.
	Scratch [192]byte

	// ResponseHeaders are added to the answer, whoever gives it.
	ResponseHeaders []Field
}

// Fail notes why the sidecar, not the upstream, ended the request.
func (x *Exchange) Fail(flag, detail string) {
	x.Record.Flags, x.Record.Detail = flag, detail
}
