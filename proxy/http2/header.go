package http2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// fieldList is a message's header fields in their order, pseudo-headers first.
// It implements exchange.Header. Names are in lower case.
type fieldList struct {
	fields []hpack.HeaderField
}

// Get returns the first value of name, or "".
func (l *fieldList) Get(name string) string {
	for i := range l.fields {
		if f := &l.fields[i]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// At returns the i-th value of name, from 0.
func (l *fieldList) At(name string, i int) (value string, ok bool) {
	for j := range l.fields {
		if f := &l.fields[j]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			if i == 0 {
				return f.Value, true
			}
			i--
		}
	}
	return "", false
}

// Set leaves one field of the name, in the first one's place.
func (l *fieldList) Set(name, value string) {
	for i := range l.fields {
		if f := &l.fields[i]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			f.Value = value
			l.remove(i+1, name)
			return
		}
	}
	l.Add(name, value)
}

// Add puts a field beside those of the name.
func (l *fieldList) Add(name, value string) { l.add(strings.ToLower(name), value) }

// Del removes every field of the name.
func (l *fieldList) Del(name string) { l.remove(0, name) }

// AppendHead implements exchange.Header: the fields as they stand, which is as
// they go on. To keep them as they came would cost each request a copy before
// anybody has touched them, for a request ID and a trace context.
func (l *fieldList) AppendHead(dst []byte, most int) (out []byte, form exchange.HeadForm, whole bool) {
	limit := len(dst) + most
	for i := range l.fields {
		f := &l.fields[i]
		if dst, whole = exchange.AppendHeadField(dst, f.Name, f.Value, limit-len(dst)); !whole {
			return dst, exchange.HeadList, false
		}
	}
	return dst, exchange.HeadList, true
}

func (l *fieldList) add(name, value string) {
	l.fields = append(l.fields, hpack.HeaderField{Name: name, Value: value})
}

func (l *fieldList) remove(from int, name string) {
	kept := from
	for i := from; i < len(l.fields); i++ {
		if f := &l.fields[i]; len(f.Name) == len(name) && strings.EqualFold(f.Name, name) {
			continue
		}
		if kept != i {
			l.fields[kept] = l.fields[i]
		}
		kept++
	}
	l.fields = l.fields[:kept]
}

// clear forgets the fields, and their texts with them.
func (l *fieldList) clear() {
	clear(l.fields)
	l.fields = l.fields[:0]
}

// size is what the fields count in a record: texts and four bytes each.
func (l *fieldList) size() uint64 {
	n := 0
	for i := range l.fields {
		n += len(l.fields[i].Name) + len(l.fields[i].Value) + 4
	}
	return uint64(n)
}

// volatile reports that a field's value is another one for each request. Such a
// field is sent without indexing, or it would push the useful ones out of the
// dynamic table.
func volatile(name string) bool {
	switch name {
	case "traceparent", "tracestate", "x-request-id", "b3", "uber-trace-id", "grpc-trace-bin", "grpc-timeout",
		"date", "age", "content-length", "etag", "last-modified", "location", "set-cookie", "range", "content-range",
		"if-none-match", "if-modified-since", "grpc-message", "x-envoy-upstream-service-time":
		return true
	}
	return strings.HasPrefix(name, "x-b3-")
}

// request is the parts of a request's head that the relay itself needs.
type request struct {
	method, scheme, authority, path, protocol string
	host, contentType, userAgent, timeout     string
	length                                    int64 // content-length, -1 without one
}

// Reasons for which a message is malformed (RFC 9113, section 8.1.1).
const (
	reasonName     = "header_name"
	reasonValue    = "header_value"
	reasonPseudo   = "pseudo_header"
	reasonHopByHop = "connection_header"
	reasonLength   = "content_length"
)

// parseRequest checks a request's head and picks its parts. The reason is empty
// if it is well-formed.
func parseRequest(fields []hpack.HeaderField) (r request, reason string) {
	r.length = -1
	regular := false
	for i := range fields {
		f := &fields[i]
		if reason = checkField(f); reason != "" {
			return r, reason
		}
		if f.Name[0] == ':' {
			if regular || !r.pseudo(f) {
				return r, reasonPseudo
			}
			continue
		}
		regular = true
		if reason = r.regular(f); reason != "" {
			return r, reason
		}
	}
	return r, r.complete()
}

func (r *request) pseudo(f *hpack.HeaderField) bool {
	var to *string
	switch f.Name {
	case ":method":
		to = &r.method
	case ":scheme":
		to = &r.scheme
	case ":authority":
		to = &r.authority
	case ":path":
		to = &r.path
	case ":protocol":
		to = &r.protocol
	default:
		return false
	}
	if *to != "" || f.Value == "" && to != &r.authority {
		return false
	}
	*to = f.Value
	return true
}

func (r *request) regular(f *hpack.HeaderField) string {
	switch f.Name {
	case "host":
		if r.host != "" && r.host != f.Value {
			return reasonPseudo
		}
		r.host = f.Value
	case "content-type":
		r.contentType = f.Value
	case "user-agent":
		r.userAgent = f.Value
	case "grpc-timeout":
		r.timeout = f.Value
	case "content-length":
		n, ok := parseLength(f.Value)
		if !ok || r.length >= 0 && r.length != n {
			return reasonLength
		}
		r.length = n
	case "te":
		if f.Value != "trailers" {
			return reasonHopByHop
		}
	default:
		if hopByHop(f.Name) {
			return reasonHopByHop
		}
	}
	return ""
}

// complete checks the pseudo-headers together (RFC 9113, section 8.3.1; RFC
// 8441, section 4).
func (r *request) complete() string {
	connect := r.method == "CONNECT" && r.protocol == ""
	switch {
	case r.method == "" || !token(r.method):
		return reasonPseudo
	case connect && (r.scheme != "" || r.path != "" || r.authority == ""):
		return reasonPseudo
	case !connect && (r.scheme == "" || r.path == ""):
		return reasonPseudo
	case r.protocol != "" && (r.method != "CONNECT" || r.authority == ""):
		return reasonPseudo
	case !connect && r.path[0] != '/' && !(r.path == "*" && r.method == "OPTIONS"):
		return reasonPseudo
	case r.authority != "" && r.host != "" && !strings.EqualFold(r.authority, r.host):
		return reasonPseudo
	case strings.ContainsAny(r.path, " \t#") || strings.ContainsAny(r.authority, " \t@/"):
		return reasonPseudo
	}
	return ""
}

// parseStatus checks an answer's head, takes hop-by-hop fields off, and returns
// the status, 0 if the head is malformed.
func parseStatus(l *fieldList) int {
	fields := l.fields
	if len(fields) == 0 || fields[0].Name != ":status" || len(fields[0].Value) != 3 {
		return 0
	}
	status, err := strconv.Atoi(fields[0].Value)
	if err != nil || status < 100 || status > 599 {
		return 0
	}
	kept := 1
	for i := 1; i < len(fields); i++ {
		if checkField(&fields[i]) != "" || fields[i].Name[0] == ':' {
			return 0
		}
		// Malformed too, but servers send them, and here they do no harm.
		if hopByHop(fields[i].Name) {
			continue
		}
		fields[kept] = fields[i]
		kept++
	}
	l.fields = fields[:kept]
	return status
}

// checkTrailers returns why a trailer section is malformed, or "".
func checkTrailers(fields []hpack.HeaderField) string {
	for i := range fields {
		f := &fields[i]
		if reason := checkField(f); reason != "" {
			return reason
		}
		if f.Name[0] == ':' {
			return reasonPseudo
		}
		if hopByHop(f.Name) {
			return reasonHopByHop
		}
	}
	return ""
}

func hopByHop(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// nameBytes are the token characters but capitals (RFC 9113, section 8.2).
var nameBytes = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()

func checkField(f *hpack.HeaderField) string {
	name := f.Name
	if name != "" && name[0] == ':' {
		name = name[1:]
	}
	if name == "" {
		return reasonName
	}
	for i := range len(name) {
		if !nameBytes[name[i]] {
			return reasonName
		}
	}
	v := f.Value
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return reasonValue
		}
	}
	if v != "" && (blank(v[0]) || blank(v[len(v)-1])) {
		return reasonValue
	}
	return ""
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !nameBytes[c] && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func parseLength(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false // ParseInt takes signs
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
