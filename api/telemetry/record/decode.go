package record

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/telemesh/telemesh/internal/varint"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	maxColumn = 64
	// MaxRows bounds one block; a sidecar sends a few thousand at most.
	MaxRows = 1 << 16
	// maxRawBytes bounds the memory that a compressed block can claim.
	maxRawBytes = 64 << 20
)

// zstdMagic begins a compressed block; any other begins with its version.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// ErrCorrupt marks a block that is not in this package's format.
var ErrCorrupt = errors.New("corrupt record block")

// ErrNewer marks, beside ErrCorrupt, a block in a form that this version does not
// know: its sender is newer.
var ErrNewer = errors.New("the sender is newer than the reader: upgrade mesh-hub before the sidecars")

// Decoder reads column blocks. Safe for concurrent use.
type Decoder struct {
	zstd *zstd.Decoder
}

// NewDecoder returns a decoder. Close releases it.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRawBytes))
	if err != nil {
		return nil, fmt.Errorf("create zstd decoder: %w", err)
	}
	return &Decoder{zstd: z}, nil
}

// Close releases the decoder.
func (d *Decoder) Close() { d.zstd.Close() }

// known are the columns that this version has.
var known = func() (known [maxColumn]bool) {
	for _, number := range []int{vocab.ColStart, vocab.ColTraceID, vocab.ColSpanID, vocab.ColParentSpanID} {
		known[number] = true
	}
	for _, number := range numberColumns {
		known[number] = true
	}
	for _, t := range textColumns {
		known[t.number] = true
	}
	return known
}()

type column struct {
	ints  []uint64
	fixed []byte
	width int
	dict  []string
	codes []uint32
}

// Columns is a decoded block. It owns its memory and is safe for concurrent
// reads. Texts that it hands out are good for ever, all else until it is decoded
// into again.
type Columns struct {
	rows  int
	cols  [maxColumn]column
	raw   []byte
	spare [maxColumn]column // memory for the next block
}

// Decode reads a block and checks that every known column has want rows. All
// errors wrap ErrCorrupt.
func (d *Decoder) Decode(src []byte, want int) (*Columns, error) {
	c := new(Columns)
	if err := d.DecodeTo(c, src, want); err != nil {
		return nil, err
	}
	return c, nil
}

// DecodeTo is Decode into memory that was used before. After an error c is of no
// use but for another block.
func (d *Decoder) DecodeTo(c *Columns, src []byte, want int) error {
	c.rows, c.cols = 0, [maxColumn]column{}
	if want == 0 && len(src) == 0 {
		return nil
	}
	if !bytes.HasPrefix(src, zstdMagic) {
		c.raw = append(c.raw[:0], src...)
		return c.read(want)
	}
	var err error
	if c.raw, err = d.zstd.DecodeAll(src, c.raw[:0]); err != nil {
		return fmt.Errorf("%w: decompress: %w", ErrCorrupt, err)
	}
	return c.read(want)
}

// read reads what is in raw.
func (c *Columns) read(want int) error {
	r := varint.Reader{B: c.raw}
	if version := r.Byte(); version > blockVersion && version < 16 { // more would be garbage: versions come one by one
		return fmt.Errorf("%w: version %d: %w", ErrCorrupt, version, ErrNewer)
	} else if version != blockVersion {
		return fmt.Errorf("%w: version %d", ErrCorrupt, version)
	}
	c.rows = int(r.Uvarint())
	if r.Bad || c.rows != want || c.rows > MaxRows {
		return fmt.Errorf("%w: %d rows where %d were announced", ErrCorrupt, c.rows, want)
	}
	for !r.Bad && len(r.B) > 0 {
		number, kind := r.Uvarint(), r.Byte()
		body := r.Bytes(r.Uvarint())
		if r.Bad || number >= maxColumn || !known[number] {
			continue // from a newer sender: skipped by its length, whatever its kind
		}
		if c.cols[number].decode(kind, body, c.rows, &c.spare[number]) {
			continue
		}
		if kind > newestKind {
			return fmt.Errorf("%w: column %d is of kind %d: %w", ErrCorrupt, number, kind, ErrNewer)
		}
		return fmt.Errorf("%w: column %d", ErrCorrupt, number)
	}
	if r.Bad {
		return fmt.Errorf("%w: truncated", ErrCorrupt)
	}
	return c.required()
}

// required checks the columns without which a record is none. One that is there in
// another form can only be a later version's.
func (c *Columns) required() error {
	if c.rows == 0 {
		return nil
	}
	for _, want := range []struct{ number, width int }{{vocab.ColStart, 0}, {vocab.ColTraceID, 16}, {vocab.ColSpanID, 8}} {
		col := &c.cols[want.number]
		switch {
		case col.ints == nil && col.fixed == nil && col.codes == nil:
			return fmt.Errorf("%w: column %d is missing", ErrCorrupt, want.number)
		case want.width == 0 && col.ints == nil, want.width != 0 && col.width != want.width:
			return fmt.Errorf("%w: column %d is in another form than this version's: %w", ErrCorrupt, want.number, ErrNewer)
		}
	}
	return nil
}

// Footprint is about how many bytes DecodeTo takes for a block of so many rows,
// found without decoding it: the block as it was before compression, its texts once
// more, and eight bytes for each value.
func Footprint(src []byte, rows int) int64 {
	raw := int64(len(src))
	if bytes.HasPrefix(src, zstdMagic) {
		var h zstd.Header
		switch err := h.Decode(src); {
		case err != nil: // decoding will fail as soon
		case h.HasFCS:
			raw = int64(min(h.FrameContentSize, maxRawBytes))
		default:
			raw = maxRawBytes
		}
	}
	return 2*raw + int64(rows)*8*(4+int64(len(numberColumns)+len(textColumns)))
}

// again is a slice of n elements of any value, in the memory of spare if it is
// large enough, which it is there for the next time.
func again[T any](spare *[]T, n int) []T {
	if cap(*spare) < n {
		*spare = make([]T, n)
	}
	return (*spare)[:n]
}

// decode reports whether body is a column of rows rows.
func (c *column) decode(kind byte, body []byte, rows int, spare *column) bool {
	r := varint.Reader{B: body}
	switch kind {
	case kindDelta:
		c.ints = again(&spare.ints, rows)
		var last int64
		for i := range c.ints {
			last += r.Varint()
			c.ints[i] = uint64(last)
		}
	case kindUvarint:
		c.ints = again(&spare.ints, rows)
		for i := range c.ints {
			c.ints[i] = r.Uvarint()
		}
	case kindSame:
		v := r.Uvarint()
		c.ints = again(&spare.ints, rows)
		for i := range c.ints {
			c.ints[i] = v
		}
	case kindFixed:
		if rows == 0 || len(body)%rows != 0 {
			return rows == 0 && len(body) == 0
		}
		c.fixed, c.width = r.Bytes(uint64(len(body))), len(body)/rows
	case kindDict:
		return c.decodeDict(&r, rows, spare)
	default:
		return false
	}
	return !r.Bad && len(r.B) == 0
}

func (c *column) decodeDict(r *varint.Reader, rows int, spare *column) bool {
	entries := r.Uvarint()
	if entries > uint64(rows) {
		return false
	}
	c.dict = again(&spare.dict, int(entries))
	texts := *r // read twice: first how long they are, so that all are one string
	for range c.dict {
		r.Bytes(r.Uvarint())
	}
	all := string(texts.B[:len(texts.B)-len(r.B)])
	for i := range c.dict {
		n := texts.Uvarint()
		from := len(all) - (len(texts.B) - len(r.B))
		if texts.Bytes(n); r.Bad {
			return false
		}
		c.dict[i] = all[from : from+int(n)]
	}
	c.codes = again(&spare.codes, rows)
	// The first sidecars wrote a code for each row also where there is one text.
	none := entries == 1 && len(r.B) == 0
	for i := range c.codes {
		var code uint64
		switch {
		case none:
		case entries <= 256:
			code = uint64(r.Byte())
		default:
			code = r.Uvarint()
		}
		if code >= entries {
			return false
		}
		c.codes[i] = uint32(code)
	}
	return !r.Bad && len(r.B) == 0
}

// Rows reports the number of records.
func (c *Columns) Rows() int { return c.rows }

func (c *Columns) int(col, row int) uint64 {
	if v := c.cols[col].ints; v != nil {
		return v[row]
	}
	return 0
}

func (c *Columns) text(col, row int) string {
	if d := c.cols[col].dict; d != nil {
		return d[c.cols[col].codes[row]]
	}
	return ""
}

func (c *Columns) id(col, row int, dst []byte) {
	if f := &c.cols[col]; f.fixed != nil && f.width == len(dst) {
		copy(dst, f.fixed[row*f.width:])
	}
}

// TraceID of one row.
func (c *Columns) TraceID(row int) (id [16]byte) {
	c.id(vocab.ColTraceID, row, id[:])
	return id
}

// RequestID of one row; empty when it is the UUID form of the trace ID.
func (c *Columns) RequestID(row int) string { return c.text(vocab.ColRequestID, row) }

// Edge of one row.
func (c *Columns) Edge(row int) uint32 { return uint32(c.int(vocab.ColEdge, row)) }

// Start of one row in Unix nanoseconds.
func (c *Columns) Start(row int) int64 { return int64(c.int(vocab.ColStart, row)) }

// Record builds one row.
func (c *Columns) Record(row int) Record {
	r := Record{
		Start:      time.Unix(0, c.Start(row)),
		Duration:   time.Duration(c.int(vocab.ColDuration, row)),
		FirstByte:  time.Duration(c.int(vocab.ColFirstByte, row)),
		TraceID:    c.TraceID(row),
		Edge:       c.Edge(row),
		Code:       uint32(c.int(vocab.ColCode, row)),
		GRPCStatus: uint32(c.int(vocab.ColGRPCStatus, row)),
		BytesIn:    c.int(vocab.ColBytesIn, row),
		BytesOut:   c.int(vocab.ColBytesOut, row),
		Attempts:   uint32(c.int(vocab.ColAttempts, row)),
		Sampled:    c.int(vocab.ColSampled, row) != 0,
	}
	c.id(vocab.ColSpanID, row, r.SpanID[:])
	c.id(vocab.ColParentSpanID, row, r.ParentSpanID[:])
	for _, t := range textColumns {
		t.set(&r, c.text(t.number, row))
	}
	return r
}
