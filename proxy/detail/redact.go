package detail

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// AlwaysRedacted are the fields whose values never leave the sidecar, in lower
// case.
var AlwaysRedacted = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}

// secrets are the names of the fields whose values are taken out, in lower case.
type secrets map[string]bool

func newSecrets(more []string) secrets {
	s := make(secrets)
	for _, list := range [][]string{AlwaysRedacted, more} {
		for _, name := range list {
			s[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	return s
}

// head reads a head that the ring kept, nil if there was none. A line that is no
// field is taken out as a secret is: nobody knows whose value it was.
func (s secrets) head(b []byte, form exchange.HeadForm, cut bool) *telemetryv1.Head {
	h := &telemetryv1.Head{Truncated: cut}
	switch form {
	case exchange.HeadLines:
		s.lines(h, b)
	case exchange.HeadList:
		s.list(h, b)
	default:
		return nil
	}
	return h
}

// lines reads HTTP/1's form. A field ends with its line, unless the next one
// begins with a blank (RFC 9112, section 5.2).
func (s secrets) lines(h *telemetryv1.Head, b []byte) {
	line, rest := nextLine(b)
	h.Line = requestLine(line)
	for len(rest) > 0 {
		line, rest = nextLine(rest)
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			var more []byte
			more, rest = nextLine(rest)
			line = append(append(bytes.Clone(line), ' '), bytes.TrimSpace(more)...)
		}
		if len(line) == 0 {
			continue // the end
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if name = bytes.TrimSpace(name); !ok || !isToken(name) {
			h.Fields = append(h.Fields, &telemetryv1.HeaderField{Value: redacted(len(line)), Redacted: true})
			continue
		}
		s.add(h, name, bytes.TrimSpace(value))
	}
}

// nextLine splits at the first line end of either kind; a lone carriage return
// is one too, lest it hide where a field begins.
func nextLine(b []byte) (line, rest []byte) {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil
	}
	line, rest = b[:i], b[i+1:]
	if b[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return line, rest
}

// list reads names and values behind their lengths.
func (s secrets) list(h *telemetryv1.Head, b []byte) {
	next := func() []byte {
		if len(b) < 2 {
			b = nil
			return nil
		}
		n := min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
		taken := b[2 : 2+n]
		b = b[2+n:]
		return taken
	}
	for len(b) > 0 {
		name := next()
		value := next()
		s.add(h, name, value)
	}
}

func (s secrets) add(h *telemetryv1.Head, name, value []byte) {
	f := &telemetryv1.HeaderField{Name: text(name), Value: text(value)}
	if at := bytes.LastIndexByte(value, '@'); at >= 0 && f.GetName() == ":authority" {
		f.Value = redacted(at) + text(value[at:]) // no authority has one any more (RFC 9113, section 8.3.1), but some are sent
	}
	if s[strings.ToLower(string(name))] {
		f.Value, f.Redacted = redacted(len(value)), true
	}
	h.Fields = append(h.Fields, f)
}

func redacted(n int) string { return fmt.Sprintf("[redacted, %d bytes]", n) }

// requestLine takes the user's name and password out of a target in absolute
// form (RFC 3986, section 3.2.1).
func requestLine(line []byte) string {
	scheme := bytes.Index(line, []byte("://"))
	if scheme < 0 {
		return text(line)
	}
	authority := line[scheme+3:]
	if end := bytes.IndexAny(authority, "/?# "); end >= 0 {
		authority = authority[:end]
	}
	at := bytes.LastIndexByte(authority, '@')
	if at < 0 {
		return text(line)
	}
	return text(line[:scheme+3]) + redacted(at) + text(line[scheme+3+at:])
}

func isToken(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return len(b) > 0
}

// text is b as protobuf takes it, in memory of its own.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }

func grpcText(plusOne byte) string { return strconv.Itoa(int(plusOne) - 1) }
