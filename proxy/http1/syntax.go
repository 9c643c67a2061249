package http1

import "encoding/binary"

// Classes of bytes, RFC 9110 section 5.6.2 and 5.5.
const (
	tokenByte = 1 << iota // of a method or a field name
	valueByte             // of a field value
	hostByte              // of a Host field: RFC 3986 reg-name, IP literal, port
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if alphanumeric {
			t[c] |= tokenByte | hostByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tokenByte
	}
	for _, c := range "!$%&'()*+,-.:;=[]_~" {
		t[c] |= hostByte
	}
	return t
}()

var lower = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			t[c] |= 0x20
		}
	}
	return t
}()

// all reports whether every byte is of the class.
func all(b []byte, of uint8) bool {
	bad := false
	for _, c := range b {
		bad = bad || class[c]&of == 0
	}
	return !bad
}

// isValue reports whether every byte may be in a field's value: eight at a time,
// and one by one only where there may be a tab.
func isValue(b []byte) bool {
	if len(b) < 8 {
		return all(b, valueByte)
	}
	found := uint64(0)
	for at := 0; len(b)-at > 8; at += 8 {
		found |= controls(binary.LittleEndian.Uint64(b[at:]))
	}
	found |= controls(binary.LittleEndian.Uint64(b[len(b)-8:])) // some of it for the second time
	return found == 0 || all(b, valueByte)
}

// controls marks the control bytes of a word by their highest bits. A byte's
// subtraction can borrow from the one above, so that above the first there may be
// marks without a reason.
func controls(w uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	d := w ^ ones*0x7f
	return ((w-ones*' ')&^w | (d-ones)&^d) & high
}

// nameBit is one of 64 bits, by a name's length and ends in either case. The name
// is not empty.
func nameBit(name []byte) uint64 {
	first, last := name[0]|0x20, name[len(name)-1]|0x20
	return 1 << ((uint(len(name)) + 3*uint(first) + 5*uint(last)) & 63)
}

// is compares without regard to case; name is in lower case.
func is(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if lower[c] != name[i] {
			return false
		}
	}
	return true
}

// trim takes spaces and tabs off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
