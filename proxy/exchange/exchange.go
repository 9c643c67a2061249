// Package exchange is one request and its answer as a sidecar sees them. The
// engine that speaks HTTP fills it in; the rest of the sidecar decides and
// observes on it and knows nothing of the engine.
package exchange

import (
	"crypto/tls"
	"net/netip"

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
	Get(name string) string // the first
	// At is the i-th value of the name, from 0.
	At(name string, i int) (value string, ok bool)
	Set(name, value string) // instead of all of the name
	Add(name, value string) // beside those of the name
	Del(name string)        // all of the name
	// AppendHead appends the head: as it came if the engine has it so, else as it
	// stands. It appends no more than most bytes; whole says that this was enough.
	AppendHead(dst []byte, most int) (out []byte, form HeadForm, whole bool)
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
	// Record becomes the thin record as it stands when the request ends. Method,
	// Path, Host, UserAgent and RequestID may be views into buffers; the other
	// texts stay valid for ever.
	Record record.Record
	// Shard spreads exchanges over what cores must not share: the same for all of
	// a connection.
	Shard uint8

	// Request is the head that goes upstream, Response the one that goes
	// downstream; nil until it exists.
	Request  Header
	Response Header
	// Trailers of the answer, nil if it had none or the engine does not tell.
	Trailers Header

	// Target is the request's path and query, and Authority its host, both as they
	// came: the record's texts are bounded, which is too little for a decision.
	// Views, as those are.
	Target, Authority string
	// Scheme of the request, http or https.
	Scheme string
	// Downstream is the caller's address, host:port.
	Downstream string
	// DownstreamLocal and UpstreamLocal are this sidecar's own ends of the two
	// connections, host:port; empty if the engine does not tell.
	DownstreamLocal string
	UpstreamLocal   string
	// TransportFailure says why no connection to the upstream came about.
	TransportFailure string
	// OriginalDestination is where a captured connection was going; the zero
	// value for one that was made to the sidecar itself.
	OriginalDestination netip.AddrPort
	// TLS of the downstream connection, nil without.
	TLS *tls.ConnectionState
	// Principal is the SPIFFE ID of the caller's certificate, empty without one.
	Principal string

	// Switches: the downstream asks to go on in another protocol (Upgrade).
	Switches bool

	// Meshed: the other end of the downstream connection is a sidecar.
	Meshed bool
	// The ends of the edge. What they point to does not change, and the same
	// peer is the same pointer as far as possible: edges are found by it.
	Source             *identity.Peer
	Destination        *identity.Peer
	DestinationService string // fully qualified
	Security           string // none, mutual_tls, unknown

	// Scratch holds the texts that Begin writes into the heads: views into it
	// need no allocation and end with the exchange.
	Scratch [192]byte

	// ResponseHeaders are added to the answer, whoever gives it.
	ResponseHeaders []Field

	// Tries are the attempts that have ended; see Tried.
	Tries []Try
	// Decision of local policy.
	Decision Decision

	// Attempt is what the handler keeps of the attempt under way.
	Attempt struct {
		Endpoint Endpoint
		Hash     uint64
		HasHash  bool
		Number   int // from 0
		// Exhausted: what failed would have been tried again, but for a limit.
		Exhausted bool
	}
}

// Fail notes why the sidecar, not the upstream, ended the request.
func (x *Exchange) Fail(flag, detail string) {
	x.Record.Flags, x.Record.Detail = flag, detail
}

// Security of a downstream connection in Istio's words: mutual_tls if the caller
// has a certificate.
func Security(state *tls.ConnectionState) string {
	if state != nil && len(state.PeerCertificates) > 0 {
		return "mutual_tls"
	}
	return "none"
}
