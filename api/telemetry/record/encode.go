package record

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const blockVersion = 1

// Kinds of column bodies.
const (
	kindDelta   = 1 // zigzag varint differences to the row before
	kindUvarint = 2 // one uvarint a row
	kindFixed   = 3 // rows of equal width
	kindDict    = 4 // uvarint(entries) (uvarint(len) bytes)* then one code a row: none for one entry, a byte up to 256, else a uvarint
	kindSame    = 5 // one uvarint for all rows
	newestKind  = kindSame
)

// Encoder writes blocks, compressed where that pays. It keeps its buffer between
// calls and is not safe for concurrent use.
type Encoder struct {
	zstd *zstd.Encoder
	raw  []byte
}

// NewEncoder returns an encoder ready for use.
func NewEncoder() (*Encoder, error) {
	// Without entropy coding: what repeats is found by then, and what is left is
	// mostly random ids, on which it spends half of the time for nothing.
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithNoEntropyCompression(true))
	if err != nil {
		return nil, fmt.Errorf("create zstd encoder: %w", err)
	}
	return &Encoder{zstd: z}, nil
}

// Append writes the block behind dst.
func (e *Encoder) Append(dst []byte, b *Block) []byte {
	size := b.Size()
	if size <= leanBytes*b.rows {
		return b.Append(slices.Grow(dst, size))
	}
	e.raw = b.Append(e.raw[:0])
	dst = e.zstd.EncodeAll(e.raw, dst)
	if cap(e.raw) > keptBytes*len(textColumns) {
		e.raw = nil
	}
	return dst
}

// leanBytes a record are left as they are: they are mostly random ids, and
// compression would cost more than the rest of a record's encoding. Above that
// there are texts that repeat.
const leanBytes = 64

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
