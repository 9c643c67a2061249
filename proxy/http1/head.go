package http1

import (
	"bytes"
	"errors"
)

// malformed is input that is not HTTP/1, or that two readers could read in two
// ways. Its text is constant: it is a metric's label.
type malformed struct {
	reason string
	status int // to answer a request with
}

func (m *malformed) Error() string { return m.reason }

func bad(reason string) *malformed { return &malformed{reason, 400} }

// What a head can have wrong.
var (
	errRequestLine   = bad("request_line")
	errStatusLine    = bad("status_line")
	errTarget        = bad("request_target")
	errVersion       = &malformed{"version", 505}
	errBareLF        = bad("bare_lf")
	errBareCR        = bad("bare_cr")
	errFieldName     = bad("field_name")
	errFieldValue    = bad("field_value")
	errFold          = bad("obs_fold")
	errLength        = bad("content_length")
	errCoding        = bad("transfer_encoding")
	errUnknownCoding = &malformed{"transfer_encoding", 501}
	errBothLengths   = bad("content_length_and_transfer_encoding")
	errHost          = bad("host")
	errExpect        = &malformed{"expect", 417}
	errTooLarge      = &malformed{"header_too_large", 431}
	errTooMany       = &malformed{"too_many_fields", 431}
	errOptions       = bad("too_many_options")

	errIncomplete = errors.New("incomplete")
)

const (
	// maxFields of one head; beyond it the answer is 431.
	maxFields = 512
	// maxOptions of a Connection field: each is looked for among all fields.
	maxOptions = 64
	maxMethod  = 64
)

// span is a part of the head's bytes.
type span struct{ from, to int32 }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// field is one line of the head.
type field struct {
	name, value span
	line        span // with its CRLF
	drop        bool // does not go on
}

// head is a parsed request or response head. It points into the bytes that were
// parsed and is reused.
type head struct {
	size           int  // bytes, blank line included
	method, target span // of a request
	host           span // of the Host field; empty without
	status         int  // of a response
	minor          byte // 0 or 1: HTTP/1.minor
	fields         []field
	names          uint64 // nameBit of each field
	length         int64  // Content-Length, -1 without
	hosts          int    // Host fields
	connections    int    // Connection fields
	options        int    // in them
	chunked        bool
	otherCoding    bool // a coding besides chunked
	close          bool // Connection: close
	keepAlive      bool // Connection: keep-alive
	upgrade        bool // Connection: upgrade
	expect         bool // Expect: 100-continue
}

func (h *head) reset() {
	fields := h.fields[:0]
	*h = head{} // and then by field: a literal would be copied
	h.fields, h.length = fields, -1
}

// parseRequest reads a request head from the beginning of b. The error is
// errIncomplete when more bytes are needed.
func (h *head) parseRequest(b []byte) error {
	h.reset()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return h.partialLine(b)
	}
	if end == 0 || b[end-1] != '\r' {
		return errBareLF
	}
	if err := h.requestLine(b[:end-1]); err != nil {
		return err
	}
	if err := h.parseFields(b, end+1); err != nil {
		return err
	}
	return h.checkRequest(b)
}

// partialLine refuses early what cannot become a request line, so that a peer
// that speaks something else gets an answer rather than a wait.
func (h *head) partialLine(b []byte) error {
	for i, c := range b {
		if c == ' ' && i > 0 {
			return errIncomplete
		}
		if class[c]&tokenByte == 0 || i >= maxMethod {
			return errRequestLine
		}
	}
	return errIncomplete
}

func (h *head) requestLine(line []byte) error {
	m := bytes.IndexByte(line, ' ')
	if m <= 0 || m > maxMethod || !all(line[:m], tokenByte) {
		return errRequestLine
	}
	t := len(line) - len(" HTTP/1.1")
	if t <= m || line[t] != ' ' || string(line[t+1:t+6]) != "HTTP/" {
		return errRequestLine
	}
	minor, ok := version(line[t+1:])
	if !ok {
		return errVersion
	}
	for _, c := range line[m+1 : t] {
		if c <= ' ' || c == 0x7f {
			return errTarget
		}
	}
	if m+1 == t {
		return errTarget
	}
	h.minor = minor
	h.method, h.target = span{0, int32(m)}, span{int32(m + 1), int32(t)}
	return nil
}

// version reads HTTP/1.x, of which 1.0 is 0 and every later one is 1.
func version(b []byte) (minor byte, ok bool) {
	if len(b) != 8 || string(b[:7]) != "HTTP/1." || b[7] < '0' || b[7] > '9' {
		return 0, false
	}
	return min(b[7]-'0', 1), true
}

// parseResponse reads a response head from the beginning of b.
func (h *head) parseResponse(b []byte) error {
	h.reset()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if n := min(len(b), 7); string(b[:n]) != "HTTP/1."[:n] {
			return errStatusLine
		}
		return errIncomplete
	}
	if end == 0 || b[end-1] != '\r' {
		return errBareLF
	}
	line := b[:end-1]
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return errStatusLine
	}
	var ok bool
	if h.minor, ok = version(line[:8]); !ok {
		return errStatusLine
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 || !isValue(line[12:]) {
		return errStatusLine
	}
	return h.parseFields(b, end+1)
}

// note takes in what the relay itself must know of a field, and marks what does
// not go beyond this hop (RFC 9110, section 7.6.1).
func (h *head) note(f *field, name, value []byte) error {
	switch len(name) {
	case 2:
		// "trailers" goes on: it asks the other end, and gRPC depends on it.
		f.drop = is(name, "te") && !is(value, "trailers")
	case 4:
		if is(name, "host") {
			h.hosts++
			h.host = f.value
		}
	case 6:
		if is(name, "expect") {
			if h.expect = is(value, "100-continue"); !h.expect && h.method.to > 0 {
				return errExpect // a response has no expectations
			}
		}
	case 7:
		f.drop = is(name, "upgrade")
	case 10:
		if is(name, "connection") {
			f.drop = true
			return h.connection(value)
		}
		f.drop = is(name, "keep-alive")
	case 14:
		if is(name, "content-length") {
			return h.contentLength(value)
		}
	case 16:
		f.drop = is(name, "proxy-connection")
	case 17:
		if is(name, "transfer-encoding") {
			return h.transferEncoding(value)
		}
	case 18:
		f.drop = is(name, "proxy-authenticate")
	case 19:
		f.drop = is(name, "proxy-authorization")
	}
	return nil
}

func (h *head) connection(value []byte) error {
	h.connections++
	for len(value) > 0 {
		if h.options++; h.options > maxOptions {
			return errOptions
		}
		option := value
		if comma := bytes.IndexByte(value, ','); comma >= 0 {
			option, value = value[:comma], value[comma+1:]
		} else {
			value = nil
		}
		switch option = trim(option); {
		case is(option, "close"):
			h.close = true
		case is(option, "keep-alive"):
			h.keepAlive = true
		case is(option, "upgrade"):
			h.upgrade = true
		}
	}
	return nil
}

func (h *head) contentLength(value []byte) error {
	if h.length >= 0 || len(value) == 0 || len(value) > 18 {
		return errLength
	}
	n := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			return errLength
		}
		n = n*10 + int64(c-'0')
	}
	h.length = n
	return nil
}

func (h *head) transferEncoding(value []byte) error {
	if h.chunked || h.otherCoding {
		return errCoding // a second field
	}
	last := value
	if comma := bytes.LastIndexByte(value, ','); comma >= 0 {
		last = trim(value[comma+1:])
		h.otherCoding = true
	}
	if !is(last, "chunked") {
		return errCoding
	}
	h.chunked = true
	return nil
}

// checkRequest looks at what only all fields together show.
func (h *head) checkRequest(b []byte) error {
	switch {
	case h.chunked && h.length >= 0:
		return errBothLengths
	case h.otherCoding:
		return errUnknownCoding
	case h.chunked && h.minor == 0:
		return errCoding // HTTP/1.0 has none: whoever passed it on may have read another body
	case h.hosts > 1 || h.hosts == 0 && h.minor == 1:
		return errHost
	case !all(h.host.of(b), hostByte):
		return errHost
	}
	if h.connections > 0 {
		h.dropNominated(b)
	}
	return h.checkTarget(b)
}

func (h *head) checkTarget(b []byte) error {
	t, method := h.target.of(b), h.method.of(b)
	switch {
	case string(method) == "CONNECT":
		if !all(t, hostByte) || bytes.IndexByte(t, ':') < 0 {
			return errTarget
		}
		return h.checkConnect()
	case t[0] == '/':
	case string(t) == "*":
		if string(method) != "OPTIONS" {
			return errTarget
		}
	default:
		if authority, _ := absolute(t); len(authority) == 0 || !all(authority, hostByte) {
			return errTarget
		}
	}
	return nil
}

// checkConnect refuses a tunnel with a body: one reader takes it for the
// tunnel's first bytes, another does not.
func (h *head) checkConnect() error {
	switch {
	case h.length > 0:
		return errLength
	case h.chunked:
		return errCoding
	}
	return nil
}

// absolute splits the absolute form of a target; authority is empty for another
// form or a scheme that is not HTTP's. path may be empty or begin with "?".
func absolute(t []byte) (authority, path []byte) {
	switch {
	case len(t) > 7 && is(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && is(t[:8], "https://"):
		t = t[8:]
	default:
		return nil, nil
	}
	end := bytes.IndexAny(t, "/?#")
	if end < 0 {
		end = len(t)
	}
	return t[:end], t[end:]
}

// checkResponse looks at what only all fields together show.
func (h *head) checkResponse(b []byte) error {
	if h.chunked && h.length >= 0 {
		return errBothLengths
	}
	if h.connections > 0 {
		h.dropNominated(b)
	}
	return nil
}

// dropNominated drops the fields that Connection names, except those that frame
// the message or say whom it is for.
func (h *head) dropNominated(b []byte) {
	for i := range h.fields {
		if !is(h.fields[i].name.of(b), "connection") {
			continue
		}
		for option := range bytes.SplitSeq(h.fields[i].value.of(b), []byte{','}) {
			h.dropNamed(b, trim(option))
		}
	}
}

func (h *head) dropNamed(b, name []byte) {
	if is(name, "host") || is(name, "content-length") || is(name, "transfer-encoding") || is(name, "te") || is(name, "trailer") {
		return
	}
	for i := range h.fields {
		if n := h.fields[i].name.of(b); len(n) == len(name) && bytes.EqualFold(n, name) {
			h.fields[i].drop = true
		}
	}
}

// persistent reports whether the sender keeps the connection open after this
// message, and the message's end is beyond doubt: HTTP/1.0 knows no chunks.
func (h *head) persistent() bool {
	if h.minor == 0 {
		return h.keepAlive && !h.close && !h.chunked
	}
	return !h.close
}
