package record

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/telemesh/telemesh/internal/vocab"
)

const blockVersion = 1

// Kinds of column bodies.
const (
	kindDelta   = 1 // zigzag varint differences to the row before
	kindUvarint = 2 // one uvarint a row
	kindFixed   = 3 // rows of equal width
	kindDict    = 4 // uvarint(entries) (uvarint(len) bytes)* then one code a row: none for one entry, a byte up to 256, else a uvarint
	kindSame    = 5 // one uvarint for all rows
)

// Encoder turns records into compressed column blocks. It keeps its buffers
// between calls and is not safe for concurrent use.
type Encoder struct {
	zstd *zstd.Encoder
	raw  []byte
	body []byte
	dict map[string]uint32
	list []string
	// codes are a text column's rows, as places in list.
	codes []uint32
}

// NewEncoder returns an encoder ready for use.
func NewEncoder() (*Encoder, error) {
	// Without entropy coding: what repeats is found by then, and what is left is
	// mostly random ids, on which it spends half of the time for nothing.
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithNoEntropyCompression(true))
	if err != nil {
		return nil, fmt.Errorf("create zstd encoder: %w", err)
	}
	return &Encoder{zstd: z, dict: make(map[string]uint32)}, nil
}

// Append encodes rs and appends the block to dst, compressed if that pays.
func (e *Encoder) Append(dst []byte, rs []Record) []byte {
	e.raw = append(e.raw[:0], blockVersion)
	e.raw = binary.AppendUvarint(e.raw, uint64(len(rs)))

	e.delta(vocab.ColStart, rs, func(r *Record) int64 { return r.Start.UnixNano() })
	e.uvarint(vocab.ColDuration, rs, func(r *Record) uint64 { return uint64(max(r.Duration, 0)) })
	e.uvarint(vocab.ColFirstByte, rs, func(r *Record) uint64 { return uint64(max(r.FirstByte, 0)) })
	e.fixed(vocab.ColTraceID, rs, func(r *Record) []byte { return r.TraceID[:] })
	e.fixed(vocab.ColSpanID, rs, func(r *Record) []byte { return r.SpanID[:] })
	e.fixed(vocab.ColParentSpanID, rs, func(r *Record) []byte { return r.ParentSpanID[:] })
	e.uvarint(vocab.ColEdge, rs, func(r *Record) uint64 { return uint64(r.Edge) })
	e.uvarint(vocab.ColCode, rs, func(r *Record) uint64 { return uint64(r.Code) })
	e.uvarint(vocab.ColGRPCStatus, rs, func(r *Record) uint64 { return uint64(r.GRPCStatus) })
	e.uvarint(vocab.ColBytesIn, rs, func(r *Record) uint64 { return r.BytesIn })
	e.uvarint(vocab.ColBytesOut, rs, func(r *Record) uint64 { return r.BytesOut })
	e.uvarint(vocab.ColAttempts, rs, func(r *Record) uint64 { return uint64(r.Attempts) })
	e.uvarint(vocab.ColSampled, rs, func(r *Record) uint64 {
		if r.Sampled {
			return 1
		}
		return 0
	})
	for _, c := range textColumns {
		e.text(c.number, rs, c.get)
	}
	if len(e.raw) <= leanBytes*len(rs) {
		return append(dst, e.raw...)
	}
	return e.zstd.EncodeAll(e.raw, dst)
}

// leanBytes a record are left as they are: they are mostly random ids, and
// compression would cost more than the rest of a record's encoding. Above that
// there are texts that repeat.
const leanBytes = 64

// textColumns are the dictionary-coded columns; set is the decoder's half.
var textColumns = []struct {
	number int
	get    func(*Record) string
	set    func(*Record, string)
}{
	{vocab.ColRequestID, func(r *Record) string { return r.RequestID }, func(r *Record, s string) { r.RequestID = s }},
	{vocab.ColProtocol, func(r *Record) string { return r.Protocol }, func(r *Record, s string) { r.Protocol = s }},
	{vocab.ColVersion, func(r *Record) string { return r.HTTPVersion }, func(r *Record, s string) { r.HTTPVersion = s }},
	{vocab.ColMethod, func(r *Record) string { return r.Method }, func(r *Record, s string) { r.Method = s }},
	{vocab.ColPath, func(r *Record) string { return r.Path }, func(r *Record, s string) { r.Path = s }},
	{vocab.ColHost, func(r *Record) string { return r.Host }, func(r *Record, s string) { r.Host = s }},
	{vocab.ColRoute, func(r *Record) string { return r.Route }, func(r *Record, s string) { r.Route = s }},
	{vocab.ColFlags, func(r *Record) string { return r.Flags }, func(r *Record, s string) { r.Flags = s }},
	{vocab.ColDetail, func(r *Record) string { return r.Detail }, func(r *Record, s string) { r.Detail = s }},
	{vocab.ColUpstream, func(r *Record) string { return r.Upstream }, func(r *Record, s string) { r.Upstream = s }},
	{vocab.ColVerdict, func(r *Record) string { return r.Verdict }, func(r *Record, s string) { r.Verdict = s }},
	{vocab.ColRule, func(r *Record) string { return r.Rule }, func(r *Record, s string) { r.Rule = s }},
	{vocab.ColUserAgent, func(r *Record) string { return r.UserAgent }, func(r *Record, s string) { r.UserAgent = s }},
	{
		vocab.ColAttributes,
		func(r *Record) string { return joinAttributes(r.Attributes) },
		func(r *Record, s string) { r.Attributes = splitAttributes(s) },
	},
}

func (e *Encoder) column(number int, kind byte) {
	e.raw = binary.AppendUvarint(e.raw, uint64(number))
	e.raw = append(e.raw, kind)
	e.raw = binary.AppendUvarint(e.raw, uint64(len(e.body)))
	e.raw = append(e.raw, e.body...)
}

func (e *Encoder) delta(number int, rs []Record, get func(*Record) int64) {
	e.body = e.body[:0]
	var last int64
	for i := range rs {
		v := get(&rs[i])
		e.body = binary.AppendVarint(e.body, v-last)
		last = v
	}
	e.column(number, kindDelta)
}

// uvarint leaves out a column that is zero in every row.
func (e *Encoder) uvarint(number int, rs []Record, get func(*Record) uint64) {
	e.body = e.body[:0]
	var first uint64
	same := true
	for i := range rs {
		v := get(&rs[i])
		if i == 0 {
			first = v
		}
		same = same && v == first
		e.body = binary.AppendUvarint(e.body, v)
	}
	switch {
	case !same:
		e.column(number, kindUvarint)
	case first != 0:
		e.body = binary.AppendUvarint(e.body[:0], first)
		e.column(number, kindSame)
	}
}

func (e *Encoder) fixed(number int, rs []Record, get func(*Record) []byte) {
	e.body = e.body[:0]
	for i := range rs {
		e.body = append(e.body, get(&rs[i])...)
	}
	e.column(number, kindFixed)
}

// text leaves out a column that is empty in every row.
func (e *Encoder) text(number int, rs []Record, get func(*Record) string) {
	clear(e.dict)
	e.list, e.codes = e.list[:0], e.codes[:0]
	last, code := "", uint32(0)
	for i := range rs {
		// Mostly it is the row before's, and a comparison costs less than a hash.
		if s := get(&rs[i]); i == 0 || s != last {
			last, code = s, e.code(s)
		}
		e.codes = append(e.codes, code)
	}
	if len(e.list) == 0 || len(e.list) == 1 && e.list[0] == "" {
		return
	}
	e.body = binary.AppendUvarint(e.body[:0], uint64(len(e.list)))
	for _, s := range e.list {
		e.body = binary.AppendUvarint(e.body, uint64(len(s)))
		e.body = append(e.body, s...)
	}
	if len(e.list) > 1 {
		e.appendCodes()
	}
	e.column(number, kindDict)
}

func (e *Encoder) appendCodes() {
	for _, code := range e.codes {
		if len(e.list) <= 256 {
			e.body = append(e.body, byte(code))
		} else {
			e.body = binary.AppendUvarint(e.body, uint64(code))
		}
	}
}

// code is a text's place in the dictionary.
func (e *Encoder) code(s string) uint32 {
	code, ok := e.dict[s]
	if !ok {
		code = uint32(len(e.list))
		e.dict[s] = code
		e.list = append(e.list, s)
	}
	return code
}

// joinAttributes writes a map in sorted order, so that equal maps share one
// dictionary entry.
func joinAttributes(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(k))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(m[k]))
	}
	return b.String()
}

// splitAttributes keeps what it can read: attributes are the user's and never
// a reason to refuse a record.
func splitAttributes(s string) map[string]string {
	if s == "" {
		return nil
	}
	m := make(map[string]string)
	for pair := range strings.SplitSeq(s, "&") {
		k, v, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(k)
		value, valueErr := url.QueryUnescape(v)
		if keyErr == nil && valueErr == nil {
			m[key] = value
		}
	}
	return m
}
