package accesslog

import (
	"strconv"
	"unicode/utf8"

	"github.com/telemesh/telemesh/proxy/exchange"
)

const hexDigits = "0123456789abcdef"

// appendText writes a line of a text format. What is missing is "-".
func appendText(dst []byte, pieces []piece, x *exchange.Exchange) []byte {
	for i := range pieces {
		p := &pieces[i]
		if p.literal != "" {
			dst = append(dst, p.literal...)
			continue
		}
		start := len(dst)
		dst = p.append(dst, x)
		if len(dst) == start {
			dst = append(dst, '-')
		}
	}
	return dst
}

// append writes a value, nothing if it is missing.
func (p *piece) append(dst []byte, x *exchange.Exchange) []byte {
	start := len(dst)
	switch {
	case p.value.text != nil:
		dst = appendClean(dst, p.value.text(x))
	case p.value.number != nil:
		if n := p.value.number(x); n >= 0 {
			dst = strconv.AppendInt(dst, n, 10)
		}
	default:
		dst = p.value.write(dst, x)
	}
	if p.truncate > 0 && len(dst)-start > p.truncate {
		dst = dst[:start+p.truncate]
	}
	return dst
}

// appendClean writes text with its control characters as \xNN.
func appendClean(dst []byte, s string) []byte {
	clean := 0 // up to here it is written
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			dst = append(dst, s[clean:i]...)
			dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			clean = i + 1
		}
	}
	return append(dst, s[clean:]...)
}

// appendJSON writes a line of a JSON format. A value that is one operator keeps
// its type, and is null where it is missing; any other is a string.
func appendJSON(dst []byte, members []member, x *exchange.Exchange) []byte {
	dst = append(dst, '{')
	for i := range members {
		m := &members[i]
		dst = append(dst, m.prefix...)
		switch {
		case len(m.pieces) == 1 && m.pieces[0].literal == "":
			dst = appendValue(dst, &m.pieces[0], x)
		default:
			start := len(dst)
			dst = quoteTail(appendText(dst, m.pieces, x), start)
		}
	}
	return append(dst, '}', '\n')
}

func appendValue(dst []byte, p *piece, x *exchange.Exchange) []byte {
	start := len(dst)
	if p.value.text != nil { // quoted where it stands, once
		s := p.value.text(x)
		if s == "" {
			return append(dst, "null"...)
		}
		if p.truncate > 0 {
			s = s[:min(p.truncate, len(s))]
		}
		return appendQuoted(dst, s)
	}
	dst = p.append(dst, x)
	switch {
	case len(dst) == start:
		return append(dst, "null"...)
	case p.value.number != nil:
		return dst
	}
	return quoteTail(dst, start)
}

// quoteTail turns what stands from start on into a JSON string, in place unless
// a character must be escaped.
func quoteTail(dst []byte, start int) []byte {
	for _, c := range dst[start:] {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendQuoted(dst[:start], string(dst[start:])) // seldom
		}
	}
	dst = append(dst, 0, '"')
	copy(dst[start+1:], dst[start:len(dst)-2])
	dst[start] = '"'
	return dst
}

// appendQuoted writes a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	clean := 0 // up to here it is written
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if c >= utf8.RuneSelf && (r != utf8.RuneError || size > 1) {
			i += size
			continue
		}
		dst = append(dst, s[clean:i]...)
		switch {
		case c >= utf8.RuneSelf:
			dst = append(dst, `\ufffd`...)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i += size
		clean = i
	}
	return append(append(dst, s[clean:]...), '"')
}
