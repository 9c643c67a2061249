package accesslog

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

// operator is a compiled command operator. Exactly one field is set.
type operator struct {
	// text is a view that is good until the exchange ends; empty if there is
	// none.
	text func(x *exchange.Exchange) string
	// number is a number, or less than 0 if there is none.
	number func(x *exchange.Exchange) int64
	// write appends text, or nothing if there is none.
	write func(dst []byte, x *exchange.Exchange) []byte
}

// lookup finds an operator, or says why it is refused.
func lookup(name, argument string, hasArgument bool) (operator, string) {
	switch name {
	case "REQ", "RESP":
		return header(name, argument)
	case "START_TIME":
		return startTime(argument)
	case "GRPC_STATUS":
		return grpcStatus(argument)
	}
	if hasArgument && known(name) {
		return operator{}, fmt.Sprintf("%%%s%% takes no argument", name)
	}
	if f, ok := texts[name]; ok {
		return operator{text: f}, ""
	}
	if f, ok := numbers[name]; ok {
		return operator{number: f}, ""
	}
	switch name {
	case "TRACE_ID":
		return operator{write: func(dst []byte, x *exchange.Exchange) []byte {
			if x.Record.TraceID == [16]byte{} {
				return dst
			}
			return ids.TraceID(x.Record.TraceID).AppendHex(dst)
		}}, ""
	case "STREAM_ID":
		return operator{write: appendRequestID}, ""
	case "HOSTNAME":
		host, _ := os.Hostname() // empty is written as "-"
		return operator{text: func(*exchange.Exchange) string { return host }}, ""
	}
	return operator{}, fmt.Sprintf("unknown operator %%%s%%", name)
}

func known(name string) bool {
	_, text := texts[name]
	_, number := numbers[name]
	return text || number || name == "TRACE_ID" || name == "STREAM_ID" || name == "HOSTNAME"
}

var texts = map[string]func(*exchange.Exchange) string{
	"PROTOCOL": func(x *exchange.Exchange) string {
		if x.Record.HTTPVersion == "HTTP/2.0" {
			return "HTTP/2"
		}
		return x.Record.HTTPVersion
	},
	"RESPONSE_FLAGS": func(x *exchange.Exchange) string { return cmp.Or(x.Record.Flags, "-") }, // never null

	"RESPONSE_CODE_DETAILS":             details,
	"CONNECTION_TERMINATION_DETAILS":    func(*exchange.Exchange) string { return "" },
	"UPSTREAM_TRANSPORT_FAILURE_REASON": func(x *exchange.Exchange) string { return x.TransportFailure },
	"UPSTREAM_HOST":                     func(x *exchange.Exchange) string { return x.Record.Upstream },
	"UPSTREAM_CLUSTER":                  func(x *exchange.Exchange) string { return x.Record.Route },
	"UPSTREAM_CLUSTER_RAW":              func(x *exchange.Exchange) string { return x.Record.Route },
	"ROUTE_NAME":                        func(x *exchange.Exchange) string { return x.Record.Route },
	"UPSTREAM_LOCAL_ADDRESS":            func(x *exchange.Exchange) string { return x.UpstreamLocal },
	"DOWNSTREAM_LOCAL_ADDRESS":          func(x *exchange.Exchange) string { return x.DownstreamLocal },
	"DOWNSTREAM_REMOTE_ADDRESS":         func(x *exchange.Exchange) string { return x.Downstream },
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":  func(x *exchange.Exchange) string { return x.Downstream },
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": func(x *exchange.Exchange) string {
		return withoutPort(x.DownstreamLocal)
	},
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": func(x *exchange.Exchange) string {
		return withoutPort(x.Downstream)
	},
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": func(x *exchange.Exchange) string {
		return withoutPort(x.Downstream)
	},
	"REQUESTED_SERVER_NAME":   serverName,
	"DOWNSTREAM_PEER_URI_SAN": func(x *exchange.Exchange) string { return principal(x.Source) },
	"UPSTREAM_PEER_URI_SAN":   func(x *exchange.Exchange) string { return principal(x.Destination) },
}

var numbers = map[string]func(*exchange.Exchange) int64{
	"RESPONSE_CODE":                  func(x *exchange.Exchange) int64 { return int64(x.Record.Code) },
	"BYTES_RECEIVED":                 func(x *exchange.Exchange) int64 { return int64(x.Record.BytesIn) },
	"BYTES_SENT":                     func(x *exchange.Exchange) int64 { return int64(x.Record.BytesOut) },
	"DURATION":                       func(x *exchange.Exchange) int64 { return x.Record.Duration.Milliseconds() },
	"RESPONSE_DURATION":              firstByte,
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": func(x *exchange.Exchange) int64 { return int64(x.Record.Attempts) },
	"GRPC_STATUS_NUMBER":             func(x *exchange.Exchange) int64 { return int64(x.Record.GRPCStatus) - 1 },
	"RESPONSE_TX_DURATION": func(x *exchange.Exchange) int64 {
		if x.Record.FirstByte == 0 {
			return -1
		}
		return (x.Record.Duration - x.Record.FirstByte).Milliseconds()
	},
}

func firstByte(x *exchange.Exchange) int64 {
	if x.Record.FirstByte == 0 {
		return -1
	}
	return x.Record.FirstByte.Milliseconds()
}

// details is what Envoy says of an answer that came from the upstream, unless
// the sidecar has its own word.
func details(x *exchange.Exchange) string {
	if x.Record.Detail == "" && x.Record.Upstream != "" && x.Record.Code > 0 {
		return "via_upstream"
	}
	return x.Record.Detail
}

// serverName is what the downstream asked for by SNI.
func serverName(x *exchange.Exchange) string {
	if x.TLS == nil {
		return ""
	}
	return x.TLS.ServerName
}

func principal(p *identity.Peer) string {
	if p == nil {
		return ""
	}
	return p.Principal
}

func withoutPort(address string) string {
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return address
	}
	return strings.Trim(address[:colon], "[]")
}

func appendRequestID(dst []byte, x *exchange.Exchange) []byte {
	if x.Record.RequestID != "" {
		return append(dst, x.Record.RequestID...)
	}
	return ids.TraceID(x.Record.TraceID).AppendUUID(dst)
}

// serviceTime is the header that an Envoy in our place would have set.
const serviceTime = "x-envoy-upstream-service-time"

// header compiles NAME or NAME?OTHER.
func header(side, argument string) (operator, string) {
	name, other, _ := strings.Cut(argument, "?")
	if name == "" {
		return operator{}, fmt.Sprintf("%%%s%% wants a header: %%%s(NAME)%%", side, side)
	}
	get := field(side, name)
	if other != "" {
		first, second := get, field(side, other)
		get = func(x *exchange.Exchange) string {
			if v := first(x); v != "" {
				return v
			}
			return second(x)
		}
	}
	if side == "RESP" && strings.EqualFold(name, serviceTime) {
		return operator{write: func(dst []byte, x *exchange.Exchange) []byte {
			if v := get(x); v != "" {
				return append(dst, v...)
			}
			if ms := firstByte(x); ms >= 0 {
				return strconv.AppendInt(dst, ms, 10)
			}
			return dst
		}}, ""
	}
	return operator{text: get}, ""
}

// field reads one header or pseudo-header.
func field(side, name string) func(*exchange.Exchange) string {
	name = strings.ToLower(name)
	if side == "RESP" {
		return func(x *exchange.Exchange) string {
			if x.Response == nil {
				return ""
			}
			return x.Response.Get(name)
		}
	}
	switch name {
	case ":method":
		return func(x *exchange.Exchange) string { return x.Record.Method }
	case ":path":
		return func(x *exchange.Exchange) string { return x.Record.Path }
	case ":authority", "host":
		return func(x *exchange.Exchange) string { return x.Record.Host }
	case ":scheme":
		return func(x *exchange.Exchange) string { return x.Scheme }
	case "user-agent":
		return func(x *exchange.Exchange) string { return x.Record.UserAgent }
	}
	return func(x *exchange.Exchange) string {
		if x.Request == nil {
			return ""
		}
		return x.Request.Get(name)
	}
}

var grpcNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
	"Unauthenticated",
}

func grpcStatus(style string) (operator, string) {
	switch style {
	case "NUMBER":
		return operator{number: numbers["GRPC_STATUS_NUMBER"]}, ""
	case "", "CAMEL_STRING":
		return operator{write: func(dst []byte, x *exchange.Exchange) []byte {
			status := int(x.Record.GRPCStatus) - 1
			if status < 0 {
				return dst
			}
			if status < len(grpcNames) {
				return append(dst, grpcNames[status]...)
			}
			return strconv.AppendInt(dst, int64(status), 10)
		}}, ""
	}
	return operator{}, fmt.Sprintf("%%GRPC_STATUS(%s)%% is not supported: want CAMEL_STRING or NUMBER", style)
}

// defaultTime is Envoy's format of START_TIME.
const defaultTime = "2006-01-02T15:04:05.000Z"

// timePart appends a part of a time.
type timePart func(dst []byte, t time.Time) []byte

// startTime compiles strftime's notation. Times are UTC.
func startTime(format string) (operator, string) {
	if format == "" {
		return operator{write: func(dst []byte, x *exchange.Exchange) []byte {
			return x.Record.Start.UTC().AppendFormat(dst, defaultTime)
		}}, ""
	}
	var parts []timePart
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			c := format[i]
			parts = append(parts, func(dst []byte, _ time.Time) []byte { return append(dst, c) })
			continue
		}
		part, length := timeVerb(format[i+1:])
		if part == nil {
			return operator{}, fmt.Sprintf("%%START_TIME%%: %q is not supported at offset %d of its format", format[i:min(i+2, len(format))], i)
		}
		parts = append(parts, part)
		i += length
	}
	return operator{write: func(dst []byte, x *exchange.Exchange) []byte {
		t := x.Record.Start.UTC()
		for _, part := range parts {
			dst = part(dst, t)
		}
		return dst
	}}, ""
}

// layouts are strftime's verbs in Go's notation.
var layouts = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'h': "Jan", 'j': "002", 'z': "-0700", 'Z': "MST",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06",
}

// timeVerb reads what follows a percent sign: a letter, or a digit and f for a
// fraction of so many digits.
func timeVerb(s string) (timePart, int) {
	if s == "" {
		return nil, 0
	}
	if layout, ok := layouts[s[0]]; ok {
		return func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, layout) }, 1
	}
	switch {
	case s[0] == '%':
		return func(dst []byte, _ time.Time) []byte { return append(dst, '%') }, 1
	case s[0] == 's':
		return func(dst []byte, t time.Time) []byte { return strconv.AppendInt(dst, t.Unix(), 10) }, 1
	case s[0] == 'f':
		return fraction(9), 1
	case len(s) > 1 && s[0] >= '1' && s[0] <= '9' && s[1] == 'f':
		return fraction(int(s[0] - '0')), 2
	}
	return nil, 0
}

func fraction(digits int) timePart {
	return func(dst []byte, t time.Time) []byte {
		rest := t.Nanosecond()
		for i, unit := 0, 100_000_000; i < digits; i, unit = i+1, unit/10 {
			dst = append(dst, byte('0'+rest/unit%10))
		}
		return dst
	}
}
