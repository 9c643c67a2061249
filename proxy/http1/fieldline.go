package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// parseFields reads the lines from p to the blank one.
func (h *head) parseFields(b []byte, p int) error {
	for {
		if len(b)-p >= 2 && b[p] == '\r' && b[p+1] == '\n' {
			h.size = p + 2
			return nil
		}
		colon, from, to, next := usualLine(b, p)
		if next == 0 {
			var err error
			if colon, from, to, next, err = anyLine(b, p); err != nil {
				return err
			}
		}
		if len(h.fields) == maxFields {
			return errTooMany
		}
		h.fields = append(h.fields, field{
			name: span{int32(p), int32(colon)}, value: span{int32(from), int32(to)}, line: span{int32(p), int32(next)},
		})
		bit := nameBit(b[p:colon])
		if h.names |= bit; bit&noted != 0 {
			if err := h.note(&h.fields[len(h.fields)-1], b[p:colon], b[from:to]); err != nil {
				return err
			}
		}
		p = next
	}
}

// noted are the bits of the names that note knows.
var noted = func() (bits uint64) {
	for _, name := range []string{
		"te", "host", "expect", "upgrade", "connection", "keep-alive", "content-length", "proxy-connection", "transfer-encoding",
		"proxy-authenticate", "proxy-authorization",
	} {
		bits |= nameBit([]byte(name))
	}
	return bits
}()

// usualLine reads the line at p in one pass if it is whole and there is nothing
// unusual about it; what it accepts, anyLine reads in the same way. The name is
// b[p:colon], the value b[from:to], and next is where the next line begins; it is
// 0 for a line that anyLine should look at.
func usualLine(b []byte, p int) (colon, from, to, next int) {
	colon = p
	for colon < len(b) && class[b[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == p || colon == len(b) || b[colon] != ':' {
		return 0, 0, 0, 0
	}
	from = colon + 1
	for from < len(b) && b[from] == ' ' {
		from++
	}
	to = from
	for len(b)-to >= 8 {
		if found := controls(binary.LittleEndian.Uint64(b[to:])); found != 0 {
			to += bits.TrailingZeros64(found) / 8
			break
		}
		to += 8
	}
	for to < len(b) && b[to] >= ' ' && b[to] != 0x7f { // at the very end of b
		to++
	}
	if len(b)-to < 2 || b[to] != '\r' || b[to+1] != '\n' {
		return 0, 0, 0, 0
	}
	next = to + 2
	for to > from && b[to-1] == ' ' {
		to--
	}
	return colon, from, to, next
}

// anyLine reads the line at p, which is not the blank one, or says what is wrong
// with it.
func anyLine(b []byte, p int) (colon, from, to, next int, err error) {
	n := bytes.IndexByte(b[p:], '\n')
	if n < 0 {
		return 0, 0, 0, 0, errIncomplete
	}
	next = p + n + 1
	if n == 0 || b[next-2] != '\r' {
		return 0, 0, 0, 0, errBareLF
	}
	line := b[p : next-2]
	for colon < len(line) && class[line[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return 0, 0, 0, 0, nameError(line)
	}
	from, to = colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	if !isValue(line[from:to]) {
		return 0, 0, 0, 0, valueError(line[from:to])
	}
	return p + colon, p + from, p + to, next, nil
}

func nameError(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return errFold
	}
	return errFieldName
}

func valueError(value []byte) error {
	if bytes.IndexByte(value, '\r') >= 0 {
		return errBareCR
	}
	return errFieldValue
}
