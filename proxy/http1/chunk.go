package http1

import "bytes"

// What a chunked body can have wrong.
var (
	errChunkSize = bad("chunk_size")
	errChunkExt  = bad("chunk_extension")
	errChunkEnd  = bad("chunk_end")
	errTrailer   = bad("trailer")
)

const (
	maxChunkLine = 4 << 10 // size and extensions
	maxTrailers  = 64 << 10
)

// chunks follows a chunked body (RFC 9112, section 7.1) through the bytes as
// they come, in whatever pieces. It changes nothing: what it has passed goes on
// as it is, extensions and trailers included.
type chunks struct {
	state   chunkState
	size    uint64 // of the chunk, then what is left of it
	digits  int
	line    int // bytes of this size line
	trailer int // bytes of all trailers

	// onData is given the body's own bytes, without framing; nil for nobody.
	onData func(p []byte)
	// onTrailer is given each trailer field's name and value.
	onTrailer func(name, value []byte)
	pending   []byte // a trailer line that is not complete
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkSpace
	chunkExt
	chunkQuoted
	chunkEscaped
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkDone
)

// next reads on and returns how many bytes of b belong to the body. The body is
// at its end when done.
func (c *chunks) next(b []byte) (n int, done bool, err error) {
	for n < len(b) {
		switch c.state {
		case chunkData:
			k := int(min(c.size, uint64(len(b)-n)))
			if c.onData != nil {
				c.onData(b[n : n+k])
			}
			n += k
			if c.size -= uint64(k); c.size == 0 {
				c.state = chunkDataCR
			}
		case chunkTrailer:
			k, err := c.trailers(b[n:])
			n += k
			if err != nil || c.state == chunkDone {
				return n, err == nil, err
			}
		default:
			if err := c.byte(b[n]); err != nil {
				return n, false, err
			}
			n++
		}
	}
	return n, c.state == chunkDone, nil
}

func (c *chunks) byte(b byte) error {
	switch c.state {
	case chunkDataCR:
		if b != '\r' {
			return errChunkEnd
		}
		c.state = chunkDataLF
		return nil
	case chunkDataLF:
		if b != '\n' {
			return errChunkEnd
		}
		c.state, c.size, c.digits, c.line = chunkSize, 0, 0, 0
		return nil
	case chunkSizeLF:
		if b != '\n' {
			return errBareCR
		}
		if c.state = chunkData; c.size == 0 {
			c.state = chunkTrailer
		}
		return nil
	}
	if c.line++; c.line > maxChunkLine {
		return errChunkExt
	}
	if c.state == chunkSize {
		return c.sizeByte(b)
	}
	return c.extByte(b)
}

func (c *chunks) sizeByte(b byte) error {
	if digit, ok := hexDigit(b); ok {
		// 15 digits are beyond any body and below any overflow.
		if c.digits++; c.digits > 15 {
			return errChunkSize
		}
		c.size = c.size<<4 | uint64(digit)
		return nil
	}
	if c.digits == 0 {
		return errChunkSize
	}
	return c.afterSize(b, errChunkSize)
}

// afterSize is what may follow a size or an extension.
func (c *chunks) afterSize(b byte, otherwise error) error {
	switch b {
	case '\r':
		c.state = chunkSizeLF
	case ';':
		c.state = chunkExt
	case ' ', '\t':
		c.state = chunkSpace
	case '\n':
		return errBareLF
	default:
		return otherwise
	}
	return nil
}

func (c *chunks) extByte(b byte) error {
	switch c.state {
	case chunkSpace:
		// Space is allowed before ";" only: with a line's end behind it, readers
		// differ on where the size ends.
		if b == ';' || b == ' ' || b == '\t' {
			return c.afterSize(b, nil)
		}
		return errChunkSize
	case chunkQuoted:
		switch {
		case b == '"':
			c.state = chunkExt
		case b == '\\':
			c.state = chunkEscaped
		case class[b]&valueByte == 0:
			return errChunkExt
		}
		return nil
	case chunkEscaped:
		if class[b]&valueByte == 0 {
			return errChunkExt
		}
		c.state = chunkQuoted
		return nil
	}
	switch {
	case b == '\r':
		c.state = chunkSizeLF
	case b == '\n':
		return errBareLF
	case b == '"':
		c.state = chunkQuoted
	case b == ';', b == '=', b == ' ', b == '\t', class[b]&tokenByte != 0:
	default:
		return errChunkExt
	}
	return nil
}

// trailers reads the fields after the last chunk, up to the blank line.
func (c *chunks) trailers(b []byte) (n int, err error) {
	end := bytes.IndexByte(b, '\n')
	if n = end + 1; end < 0 {
		n = len(b)
	}
	if c.trailer += n; c.trailer > maxTrailers {
		return n, errTrailer
	}
	if end < 0 || len(c.pending) > 0 {
		c.pending = append(c.pending, b[:n]...)
		if end < 0 {
			return n, nil
		}
		b = c.pending
	} else {
		b = b[:n]
	}
	err = c.trailerLine(b)
	c.pending = c.pending[:0]
	return n, err
}

func (c *chunks) trailerLine(line []byte) error {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errBareLF
	}
	if line = line[:len(line)-2]; len(line) == 0 {
		c.state = chunkDone
		return nil
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !all(line[:colon], tokenByte) || !all(line[colon+1:], valueByte) {
		return errTrailer
	}
	if c.onTrailer != nil {
		c.onTrailer(line[:colon], trim(line[colon+1:]))
	}
	return nil
}

func hexDigit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}
