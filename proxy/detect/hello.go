package detect

import (
	"encoding/binary"
	"strings"
)

const (
	recordHeader = 5
	// maxHello bounds a ClientHello with its record headers. Real ones have 200 to
	// 2,000 bytes.
	maxHello = 16 << 10
	// maxRecords bounds the pieces that it comes in; one is usual, two are seen.
	maxRecords = 16
	// Bounds of what is taken out of it.
	maxSNI       = 255
	maxProtocols = 16
)

// hello is what a ClientHello says in the clear.
type hello struct {
	sni  string   // lower case, without a final dot; empty if absent or no host name
	alpn []string // as offered, at most maxProtocols
}

// helloNeeds says how many bytes the records that carry a ClientHello have, as
// far as b shows: more than len(b) as long as bytes are missing, -1 if b cannot
// be one or it would be longer than maxHello.
func helloNeeds(b []byte) int {
	at, message, want := 0, 0, 4 // a handshake message's own header has 4 bytes
	var header [4]byte
	for records := 0; message < want; records++ {
		if records == maxRecords {
			return -1
		}
		if len(b)-at < recordHeader {
			return at + recordHeader
		}
		n := int(binary.BigEndian.Uint16(b[at+3:]))
		if b[at] != 22 || b[at+1] != 3 || n == 0 || at+recordHeader+n > maxHello {
			return -1
		}
		body := b[at+recordHeader:]
		if len(body) < n {
			return at + recordHeader + n
		}
		if message < len(header) {
			copy(header[message:], body[:n])
		}
		message += n
		at += recordHeader + n
		if message >= len(header) {
			if header[0] != 1 {
				return -1
			}
			want = len(header) + (int(header[1])<<16 | int(header[2])<<8 | int(header[3]))
		}
	}
	return at
}

// parseHello reads a whole ClientHello (RFC 8446, section 4.1.2) out of its
// records. ok is false for bytes that are none.
func parseHello(b []byte) (h hello, ok bool) {
	message, ok := helloMessage(b)
	if !ok {
		return h, false
	}
	r := reader{b: message}
	r.take(2 + 32) // version and random
	r.take(r.uint8())
	r.take(r.uint16()) // cipher suites
	r.take(r.uint8())  // compression
	if r.bad {
		return h, false
	}
	if len(r.b) == 0 {
		return h, true // extensions may be left out before TLS 1.3
	}
	extensions := reader{b: r.take(r.uint16())}
	for len(extensions.b) > 0 && !extensions.bad {
		kind := extensions.uint16()
		body := reader{b: extensions.take(extensions.uint16())}
		switch kind {
		case 0:
			h.readSNI(&body)
		case 16:
			h.readALPN(&body)
		}
		if body.bad {
			return hello{}, false
		}
	}
	return h, !r.bad && !extensions.bad
}

// helloMessage joins the pieces of the handshake message and takes its header
// off.
func helloMessage(b []byte) ([]byte, bool) {
	if n := helloNeeds(b); n < 0 || n > len(b) {
		return nil, false
	}
	var whole []byte
	for len(b) >= recordHeader {
		n := int(binary.BigEndian.Uint16(b[3:]))
		if n > len(b)-recordHeader {
			break
		}
		whole = append(whole, b[recordHeader:recordHeader+n]...)
		b = b[recordHeader+n:]
		if len(whole) >= 4 {
			if size := int(whole[1])<<16 | int(whole[2])<<8 | int(whole[3]); len(whole)-4 >= size {
				return whole[4 : 4+size], true
			}
		}
	}
	return nil, false
}

// readSNI takes the host name (RFC 6066, section 3).
func (h *hello) readSNI(r *reader) {
	names := reader{b: r.take(r.uint16())}
	for len(names.b) > 0 && !names.bad {
		kind, name := names.uint8(), names.take(names.uint16())
		if kind == 0 && h.sni == "" && isHostName(name) {
			h.sni = strings.TrimSuffix(strings.ToLower(string(name)), ".")
		}
	}
	r.bad = r.bad || names.bad
}

// isHostName keeps what may become a label or a route key to the letters of a
// host name.
func isHostName(b []byte) bool {
	if len(b) == 0 || len(b) > maxSNI {
		return false
	}
	for _, c := range b {
		if !(lower(c) >= 'a' && lower(c) <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// readALPN takes the protocol names (RFC 7301, section 3.1).
func (h *hello) readALPN(r *reader) {
	list := reader{b: r.take(r.uint16())}
	for len(list.b) > 0 && !list.bad {
		name := list.take(list.uint8())
		if len(name) == 0 {
			list.bad = true
		}
		if len(h.alpn) < maxProtocols {
			h.alpn = append(h.alpn, string(name))
		}
	}
	r.bad = r.bad || list.bad
}

// reader takes fields off a message. After the first that is not all there it
// is bad and yields zeroes.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint8() int {
	if b := r.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}
