package detect

import (
	"bytes"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// preface begins every HTTP/2 connection (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxPeek is what plain protocols are told apart by: the preface's length, which
// is room for a method and the beginning of a target too.
const maxPeek = len(preface)

// guess is what a connection's first bytes say.
type guess uint8

const (
	undecided guess = iota // more bytes can still make it HTTP or TLS
	isHTTP1
	isHTTP2
	isTLS
	isTCP
)

func (g guess) protocol() exchange.Protocol {
	switch g {
	case isHTTP1:
		return exchange.HTTP1
	case isHTTP2:
		return exchange.HTTP2
	default:
		return exchange.TCP
	}
}

// classify looks at the first bytes; maxPeek of them always decide.
func classify(b []byte, hint Hint) guess {
	if n := min(len(b), len(preface)); string(b[:n]) == preface[:n] {
		if n == len(preface) {
			return isHTTP2
		}
		return undecided
	}
	if hint == HTTPOnly {
		return isHTTP1
	}
	if g := classifyTLS(b); g != isTCP {
		return g
	}
	g := classifyHTTP1(b)
	if g == undecided && len(b) >= maxPeek {
		return isTCP
	}
	return g
}

// classifyTLS looks for the header of a handshake record, whose legacy version
// is 3.0 to 3.4 (RFC 8446, section 5.1), and the ClientHello in it.
func classifyTLS(b []byte) guess {
	const handshake, clientHello = 22, 1
	switch {
	case b[0] != handshake, len(b) > 1 && b[1] != 3, len(b) > 2 && b[2] > 4, len(b) > 5 && b[5] != clientHello:
		return isTCP
	case len(b) > 5:
		return isTLS
	}
	return undecided
}

// methods of RFC 9110 and RFC 5789. Other tokens count only before a path,
// because commands of many line protocols look like them.
var methods = [][]byte{
	[]byte("GET"), []byte("HEAD"), []byte("POST"), []byte("PUT"), []byte("DELETE"), []byte("CONNECT"), []byte("OPTIONS"), []byte("TRACE"), []byte("PATCH"),
}

// classifyHTTP1 looks for a method, a space and the beginning of a target
// (RFC 9112, section 3).
func classifyHTTP1(b []byte) guess {
	method, target, spaced := bytes.Cut(b, []byte{' '})
	for _, c := range method {
		if !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return isTCP
		}
	}
	switch {
	case !spaced:
		return undecided
	case len(method) == 0:
		return isTCP
	case len(target) == 0:
		return undecided
	case target[0] == '/':
		return isHTTP1
	}
	for _, m := range methods {
		if bytes.Equal(m, method) {
			return classifyTarget(string(m), target)
		}
	}
	return isTCP
}

// classifyTarget looks at a target that is not a path. "GET key" is a command of
// Redis and others, so a form that HTTP has must follow.
func classifyTarget(method string, target []byte) guess {
	switch {
	case method == "CONNECT": // a host, or an IPv6 address in brackets
		if c := target[0]; c == '[' || c == '.' || c == '-' || c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'z' {
			return isHTTP1
		}
		return isTCP
	case target[0] == '*':
		if method == "OPTIONS" {
			return isHTTP1
		}
		return isTCP
	}
	possible := isTCP
	for _, scheme := range schemes {
		n := min(len(target), len(scheme))
		if !bytes.EqualFold(target[:n], scheme[:n]) {
			continue
		}
		if n == len(scheme) {
			return isHTTP1
		}
		possible = undecided
	}
	return possible
}

var schemes = [][]byte{[]byte("http://"), []byte("https://")}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// greetsAsHTTP2 reports that what a server said first is the SETTINGS frame that
// HTTP/2 lets it send before it has seen the preface, as gRPC servers do (RFC
// 9113, sections 3.4, 6.5). It is no reason to take the connection for a
// server-first protocol. more: the bytes so far allow no answer.
func greetsAsHTTP2(b []byte) (yes, more bool) {
	const header, settings = 9, 4
	for i, c := range b[:min(len(b), header)] {
		switch {
		case i == 0 && c != 0, i == 3 && c != settings, i > 3 && c != 0:
			return false, false
		}
	}
	if len(b) < header {
		return false, true
	}
	return (int(b[1])<<8|int(b[2]))%6 == 0, false
}
