package record

import (
	"encoding/binary"

	"github.com/telemesh/telemesh/internal/vocab"
)

// Block is a run of records in the form in which they are sent, and grows a row
// at a time: what a request says that the one before it said too costs a
// comparison, and nothing of the record is kept besides. Its memory is used
// again after Reset. It is not safe for concurrent use.
type Block struct {
	rows    int
	last    int64 // start of the last row
	starts  []byte
	traces  []byte
	spans   []byte
	parents []byte

	// What the row before said stands together, because most rows look at nothing
	// else: the caches are cold when a request ends.
	first  [len(numberColumns)]uint64 // of a column whose rows are all the same, so far
	varied uint16                     // columns of numbers that have a body
	many   uint16                     // columns of texts that have codes
	same   [len(textColumns)]string   // the row before's

	numbers [len(numberColumns)][]byte // a uvarint for each row, or nothing
	texts   [len(textColumns)]texts
}

// numberColumns are in the order of Add.
var numberColumns = [...]int{
	vocab.ColDuration, vocab.ColFirstByte, vocab.ColEdge, vocab.ColCode, vocab.ColGRPCStatus,
	vocab.ColBytesIn, vocab.ColBytesOut, vocab.ColAttempts, vocab.ColSampled,
}

// textColumns are in the order of Add; set is the decoder's half. The first
// shortLived of them may be views, which are overwritten after Add.
var textColumns = [...]struct {
	number int
	set    func(*Record, string)
}{
	{vocab.ColRequestID, func(r *Record, s string) { r.RequestID = s }},
	{vocab.ColMethod, func(r *Record, s string) { r.Method = s }},
	{vocab.ColPath, func(r *Record, s string) { r.Path = s }},
	{vocab.ColHost, func(r *Record, s string) { r.Host = s }},
	{vocab.ColUserAgent, func(r *Record, s string) { r.UserAgent = s }},
	{vocab.ColProtocol, func(r *Record, s string) { r.Protocol = s }},
	{vocab.ColVersion, func(r *Record, s string) { r.HTTPVersion = s }},
	{vocab.ColRoute, func(r *Record, s string) { r.Route = s }},
	{vocab.ColFlags, func(r *Record, s string) { r.Flags = s }},
	{vocab.ColDetail, func(r *Record, s string) { r.Detail = s }},
	{vocab.ColUpstream, func(r *Record, s string) { r.Upstream = s }},
	{vocab.ColVerdict, func(r *Record, s string) { r.Verdict = s }},
	{vocab.ColRule, func(r *Record, s string) { r.Rule = s }},
	{vocab.ColAttributes, func(r *Record, s string) { r.Attributes = splitAttributes(s) }},
}

const shortLived = 5

// BlockOf holds all of rs.
func BlockOf(rs []Record) *Block {
	b := new(Block)
	for i := range rs {
		b.Add(&rs[i])
	}
	return b
}

// Rows counts the records.
func (b *Block) Rows() int { return b.rows }

// Add takes a record in. Its texts are copied where they are new. RequestID,
// Method, Path, Host and UserAgent may be overwritten afterwards, the others not.
func (b *Block) Add(r *Record) {
	start := r.Start.UnixNano()
	b.starts = binary.AppendVarint(b.starts, start-b.last)
	b.last = start
	b.traces = append(b.traces, r.TraceID[:]...)
	b.spans = append(b.spans, r.SpanID[:]...)
	b.parents = append(b.parents, r.ParentSpanID[:]...)
	attributes := ""
	if len(r.Attributes) > 0 {
		attributes = joinAttributes(r.Attributes)
	}
	sampled := uint64(0)
	if r.Sampled {
		sampled = 1
	}
	for i, v := range [len(numberColumns)]uint64{
		uint64(max(r.Duration, 0)), uint64(max(r.FirstByte, 0)), uint64(r.Edge), uint64(r.Code), uint64(r.GRPCStatus),
		r.BytesIn, r.BytesOut, uint64(r.Attempts), sampled,
	} {
		if b.varied&(1<<i) != 0 {
			b.numbers[i] = binary.AppendUvarint(b.numbers[i], v)
		} else if v != b.first[i] {
			b.vary(i, v)
		}
	}
	for i, s := range [len(textColumns)]string{
		r.RequestID, r.Method, r.Path, r.Host, r.UserAgent, r.Protocol, r.HTTPVersion, r.Route, r.Flags, r.Detail, r.Upstream,
		r.Verdict, r.Rule, attributes,
	} {
		if s != b.same[i] || b.rows == 0 {
			b.change(i, s)
		}
		if b.many&(1<<i) != 0 {
			b.texts[i].repeat()
		}
	}
	b.rows++
}

// vary takes the first number in that is not the one of the rows before.
func (b *Block) vary(i int, v uint64) {
	if b.rows == 0 {
		b.first[i] = v
		return
	}
	b.varied |= 1 << i
	for range b.rows {
		b.numbers[i] = binary.AppendUvarint(b.numbers[i], b.first[i])
	}
	b.numbers[i] = binary.AppendUvarint(b.numbers[i], v)
}

// change goes on with another text than the row before's. A lasting text is kept
// itself to compare with, and is mostly found to be the same by its address.
func (b *Block) change(i int, s string) {
	c := &b.texts[i]
	known := c.find(b.rows, s)
	if b.same[i] = s; i < shortLived {
		b.same[i] = known
	}
	if len(c.index) > 1 {
		b.many |= 1 << i
	}
}

// Size is about how many bytes the block has on the wire before compression.
func (b *Block) Size() int {
	n := len(b.starts) + len(b.traces) + len(b.spans) + len(b.parents) + 64
	for i := range b.numbers {
		n += len(b.numbers[i]) + 8
	}
	for i := range b.texts {
		n += len(b.texts[i].dict) + len(b.texts[i].codes) + 8
	}
	return n
}

// Append writes the block, not compressed.
func (b *Block) Append(dst []byte) []byte {
	dst = append(dst, blockVersion)
	dst = binary.AppendUvarint(dst, uint64(b.rows))
	dst = appendColumn(dst, vocab.ColStart, kindDelta, nil, b.starts)
	dst = appendColumn(dst, vocab.ColTraceID, kindFixed, nil, b.traces)
	dst = appendColumn(dst, vocab.ColSpanID, kindFixed, nil, b.spans)
	dst = appendColumn(dst, vocab.ColParentSpanID, kindFixed, nil, b.parents)
	for i, number := range numberColumns {
		dst = appendNumbers(dst, number, b.first[i], b.numbers[i])
	}
	for i, c := range textColumns {
		dst = b.texts[i].append(dst, c.number)
	}
	return dst
}

// Reset empties the block. Memory beyond the usual is let go.
func (b *Block) Reset() {
	b.rows, b.last = 0, 0
	b.starts, b.traces, b.spans, b.parents = b.starts[:0], b.traces[:0], b.spans[:0], b.parents[:0]
	b.varied, b.many = 0, 0
	clear(b.first[:])
	clear(b.same[:])
	for i := range b.numbers {
		b.numbers[i] = b.numbers[i][:0]
	}
	for i := range b.texts {
		b.texts[i].reset()
	}
}

// appendColumn writes a column whose body begins with head and goes on with
// what more has.
func appendColumn(dst []byte, number int, kind byte, head []byte, more ...[]byte) []byte {
	n := len(head)
	for _, m := range more {
		n += len(m)
	}
	dst = binary.AppendUvarint(dst, uint64(number))
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = append(dst, head...)
	for _, m := range more {
		dst = append(dst, m...)
	}
	return dst
}
