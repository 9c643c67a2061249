package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/parquet-go/parquet-go/format"

	"github.com/telemesh/telemesh/internal/varint"
)

// Verify reads all of the segment: every page decodes, sums and counts are as
// the index says, the footer describes the same, and the index says of the
// records what they say themselves. All that is wrong is told, each with row
// group and column.
func (s *Segment) Verify(ctx context.Context) error {
	errs := s.damagedAtOpen()
	meta, err := s.verifyEnds(ctx)
	if err != nil {
		errs = append(errs, damagedFooter(err))
	}
	again := newIndexBuilder(s.header.seed, s.version, s.columns)
	whole := true
	at := int64(len(parquetMagic))
	for i := range s.header.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, f, err := s.readFacts(ctx, i)
		if d != nil {
			d.release()
		}
		if d != nil && d.offset != at {
			errs = append(errs, damagedIndex(fmt.Errorf("%w: segment %s: row group %d begins at %d, the one before ends at %d", ErrCorrupt, s.name, i, d.offset, at)))
		}
		if d != nil {
			at = d.at[len(d.at)-1]
			if meta != nil {
				errs = append(errs, damagedFooter(d.verifyFooter(meta)))
			}
		}
		if err != nil {
			whole = false
			if d != nil { // without it the entry is among what Open found damaged
				errs = append(errs, err)
			}
			continue
		}
		again.add(f, d.group)
	}
	if whole {
		errs = append(errs, damagedIndex(s.verifyIndex(again)))
		if at != s.header.footer {
			errs = append(errs, damagedIndex(fmt.Errorf("%w: segment %s: the row groups end at %d, the footer begins at %d", ErrCorrupt, s.name, at, s.header.footer)))
		}
	}
	return errors.Join(errs...)
}

// verifyEnds reads what stands before and behind the row groups.
func (s *Segment) verifyEnds(ctx context.Context) (*format.FileMetaData, error) {
	head := make([]byte, len(parquetMagic))
	if err := s.data.ReadRange(ctx, head, 0); err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.name, err)
	}
	if string(head) != parquetMagic {
		return nil, fmt.Errorf("%w: segment %s: no magic at the beginning", ErrCorrupt, s.name)
	}
	tail := make([]byte, s.header.size-s.header.footer)
	if err := s.data.ReadRange(ctx, tail, s.header.footer); err != nil {
		return nil, fmt.Errorf("segment %s: footer: %w", s.name, err)
	}
	if crc32.Checksum(tail, castagnoli) != s.header.footerSum {
		return nil, fmt.Errorf("%w: segment %s: checksum of the footer", ErrCorrupt, s.name)
	}
	meta, err := parseFooter(tail)
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.name, err)
	}
	if meta.NumRows != int64(s.header.rows) || len(meta.RowGroups) != s.header.groups {
		return nil, fmt.Errorf("%w: segment %s: the footer has %d rows in %d row groups, the index %d in %d",
			ErrCorrupt, s.name, meta.NumRows, len(meta.RowGroups), s.header.rows, s.header.groups)
	}
	return meta, nil
}

// verifyFooter compares a row group's entries of footer and index.
func (d *groupData) verifyFooter(meta *format.FileMetaData) error {
	g := &meta.RowGroups[d.number]
	if g.NumRows != int64(d.rows) || len(g.Columns) != len(d.chunks) {
		return fmt.Errorf("%w: segment %s: row group %d: the footer has %d rows, the index %d", ErrCorrupt, d.segment.name, d.number, g.NumRows, d.rows)
	}
	for leaf := range d.chunks {
		have := d.chunks[leaf]
		have.sum = 0
		if want, offset := chunkOf(&g.Columns[leaf].MetaData); want != have || offset != d.at[leaf] {
			return fmt.Errorf("%w: footer and index disagree", d.segment.corrupt(d.number, leaf))
		}
	}
	return nil
}

// chunkOf is a chunk, and its offset, as a footer describes it.
func chunkOf(m *format.ColumnMetaData) (c chunk, offset int64) {
	offset = m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		c.dictLen = uint32(m.DataPageOffset - m.DictionaryPageOffset)
		offset = m.DictionaryPageOffset
	}
	c.dataLen = uint32(m.TotalCompressedSize - int64(c.dictLen))
	c.compressed = m.Codec == format.Zstd
	return c, offset
}

// readFacts reads a row group, decodes every value of it, and collects what the
// index ought to say. The group is nil only if it could not be read at all.
func (s *Segment) readFacts(ctx context.Context, number int) (*groupData, *groupFacts, error) {
	d, err := s.groupData(number)
	if err != nil {
		return nil, nil, err
	}
	if err := d.readAll(ctx); err != nil {
		return d, nil, err
	}
	f, err := d.facts()
	return d, f, err
}

// sweep decodes all values of a column.
func (e *encoded) sweep(m *memory) (ok bool) {
	switch e.kind {
	case kindText:
		if _, ok = e.texts(); !ok {
			return false
		}
		m.codes, ok = e.codes(m.codes, e.rows)
	case kindUUID:
		m.codes, ok = e.codes(m.codes, e.rows)
	case kindMapKey, kindMapValue:
		if m.codes, m.starts, ok = e.lists(m.codes, m.starts, m); ok {
			_, ok = e.texts()
		}
	case kindID:
		ok = true
	case kindTime, kindLong, kindInt, kindNullInt, kindBool:
		m.longs, ok = e.ints(m.longs, m)
	}
	return ok
}

// soundLeaf reads all there is to one leaf. Of a kind that is newer than this
// program only the sums can be checked.
func (d *groupData) soundLeaf(leaf int, k kind) bool {
	b, c := d.bytes(leaf), d.chunks[leaf]
	if k < kindTime || k > kindMapValue {
		return crc32.Checksum(b, castagnoli) == c.sum && pageSums(b, c)
	}
	e, ok := d.segment.decoder.decode(d.mem, b, c, k, d.rows, false)
	return ok && pageSums(b, c) && e.sweep(d.mem)
}

// facts decodes the row group.
func (d *groupData) facts() (*groupFacts, error) {
	var errs []error
	for leaf, c := range d.segment.columns {
		if !d.soundLeaf(leaf, c.kind) {
			errs = append(errs, d.segment.corrupt(d.number, leaf))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	f := &groupFacts{rows: d.rows}
	for c, to := range map[Column]*[]int64{
		Start: &f.starts, Duration: &f.durations, Code: &f.codes, GRPCStatus: &f.grpc, BytesIn: &f.bytesIn, BytesOut: &f.bytesOut,
	} {
		*to = make([]int64, d.rows)
		if e, present, err := d.column(c); err != nil {
			return nil, err
		} else if present {
			*to, _ = e.ints(*to, d.mem)
		}
	}
	if e, present, err := d.column(TraceID); err != nil {
		return nil, err
	} else if present {
		for i := range e.entries {
			f.traces = append(f.traces, [16]byte(e.dict[16*i:]))
		}
	}
	return f, d.textFacts(f)
}

func (d *groupData) textFacts(f *groupFacts) error {
	var err error
	if f.requestIDs, _, err = d.dictionary(RequestID); err != nil {
		return err
	}
	if f.protocols, f.protocol, err = d.dictionary(Protocol); err != nil {
		return err
	}
	if f.verdicts, f.verdict, err = d.dictionary(Verdict); err != nil {
		return err
	}
	var dicts [numOrigin][]string
	var codes [numOrigin][]int32
	for i := range dicts {
		if dicts[i], codes[i], err = d.dictionary(firstOrigin + Column(i)); err != nil {
			return err
		}
	}
	index := make(map[[numOrigin]int32]int32)
	for row := range d.rows {
		var key [numOrigin]int32
		for i := range key {
			key[i] = codes[i][row]
		}
		at, ok := index[key]
		if !ok {
			at = int32(len(f.tuples))
			index[key] = at
			o := new(origin)
			for i, code := range key {
				o[i] = dicts[i][code]
			}
			f.tuples = append(f.tuples, o)
		}
		f.origins = append(f.origins, at)
	}
	return nil
}

// dictionary of a text column; one that the file lacks is empty in every row.
func (d *groupData) dictionary(c Column) ([]string, []int32, error) {
	out := make([]int32, d.rows)
	e, present, err := d.column(c)
	if err != nil || !present {
		return []string{""}, out, err
	}
	dict, ok := e.texts()
	codes, ok2 := e.codes(d.mem.codes, d.rows)
	if !ok || !ok2 {
		return nil, nil, d.corrupt(c)
	}
	d.mem.codes = codes
	for i, code := range codes {
		out[i] = int32(code)
	}
	return dict, out, nil
}

// verifyIndex compares the index with one made of the records.
func (s *Segment) verifyIndex(again *indexBuilder) error {
	tail := make([]byte, s.header.size-s.header.footer)
	want := again.encode(s.header.size, tail)
	h, err := readHeader(want, int64(len(want)))
	if err != nil {
		return err
	}
	if again.rows != s.header.rows {
		return fmt.Errorf("%w: segment %s: %d rows, the index says %d", ErrCorrupt, s.name, again.rows, s.header.rows)
	}
	var errs []error
	for _, p := range h.parts {
		q := s.header.part(p.kind)
		have := make([]byte, q.length)
		if err := s.readIndex(have, q.offset); err != nil {
			errs = append(errs, err)
		} else if !bytes.Equal(have, want[p.offset:p.offset+p.length]) {
			errs = append(errs, fmt.Errorf("%w: segment %s: index: the %s are not those of the records", ErrCorrupt, s.name, partNames[p.kind]))
		}
	}
	return errors.Join(errs...)
}

// parseFooter is readFooter, safe from what a damaged footer does to the Thrift
// decoder.
func parseFooter(tail []byte) (meta *format.FileMetaData, err error) {
	defer func() {
		if p := recover(); p != nil {
			meta, err = nil, fmt.Errorf("%w: footer: %v", ErrCorrupt, p)
		}
	}()
	return readFooter(tail)
}

// Reindex makes the index of a Parquet file of ours, size bytes long, from the
// file alone. seed is that of the hashes; any will do.
func Reindex(ctx context.Context, data Range, size int64, seed uint64, o Options) ([]byte, error) {
	s := &Segment{data: data, name: o.Name, decoder: o.Decoder}
	tail, err := readTail(ctx, data, size)
	if err != nil {
		return nil, fmt.Errorf("reindex segment %s: %w", o.Name, err)
	}
	meta, err := parseFooter(tail)
	if err != nil {
		return nil, fmt.Errorf("reindex segment %s: %w", o.Name, err)
	}
	s.header.size, s.header.groups = size, len(meta.RowGroups)
	version, err := s.describe(meta)
	if err != nil {
		return nil, fmt.Errorf("reindex segment %s: %w", o.Name, err)
	}
	x := newIndexBuilder(seed, version, s.columns)
	for i := range meta.RowGroups {
		d, err := s.fromFooter(ctx, i, &meta.RowGroups[i])
		if err != nil {
			return nil, err
		}
		f, err := d.facts()
		d.release()
		if err != nil {
			return nil, err
		}
		x.add(f, d.group)
	}
	return x.encode(size, tail), nil
}

// readTail reads the footer from the end of the file.
func readTail(ctx context.Context, data Range, size int64) ([]byte, error) {
	if size < 12 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, size)
	}
	end := make([]byte, 8)
	if err := data.ReadRange(ctx, end, size-8); err != nil {
		return nil, err
	}
	r := varint.Reader{B: end}
	n := int64(r.U32()) + 8
	if n > size-4 || n > maxFooter {
		return nil, fmt.Errorf("%w: no Parquet footer", ErrCorrupt)
	}
	tail := make([]byte, n)
	return tail, data.ReadRange(ctx, tail, size-n)
}

// describe takes the columns from the footer.
func (s *Segment) describe(meta *format.FileMetaData) (version uint64, err error) {
	for _, kv := range meta.KeyValueMetadata {
		if kv.Key == keySchema {
			if _, err := fmt.Sscan(kv.Value, &version); err != nil {
				return 0, fmt.Errorf("%w: schema version %q", ErrCorrupt, kv.Value)
			}
		}
	}
	if version == 0 {
		return 0, fmt.Errorf("not a segment of ours: %s is missing in its metadata", keySchema)
	}
	known := make(map[string]kind)
	for _, c := range specs {
		known[c.name] = c.kind
	}
	if len(meta.RowGroups) == 0 {
		s.columns = schemaColumns()
	} else {
		for i := range meta.RowGroups[0].Columns {
			name := strings.Join(meta.RowGroups[0].Columns[i].MetaData.PathInSchema, ".")
			if known[name] == 0 {
				return 0, fmt.Errorf("column %s is of a newer version than this program", name)
			}
			s.columns = append(s.columns, column{name, known[name]})
		}
	}
	s.resolve()
	return version, nil
}

// fromFooter reads a row group that a footer describes.
func (s *Segment) fromFooter(ctx context.Context, number int, g *format.RowGroup) (*groupData, error) {
	d := &groupData{segment: s, number: number, group: group{rows: int(g.NumRows)}, mem: s.decoder.borrow()}
	bad := fmt.Errorf("%w: segment %s: footer: row group %d", ErrCorrupt, s.name, number)
	if len(g.Columns) != len(s.columns) || g.NumRows <= 0 || g.NumRows > maxRows {
		return nil, bad
	}
	at := int64(-1)
	for i := range g.Columns {
		c, offset := chunkOf(&g.Columns[i].MetaData)
		if at < 0 {
			at, d.offset = offset, offset
		}
		if offset != at || offset < 0 {
			return nil, bad
		}
		d.chunks, d.at = append(d.chunks, c), append(d.at, at)
		at += int64(c.dictLen) + int64(c.dataLen)
	}
	if d.at = append(d.at, at); at > s.header.size {
		return nil, bad
	}
	if err := d.readAll(ctx); err != nil {
		return nil, err
	}
	for leaf := range d.chunks {
		d.chunks[leaf].sum = crc32.Checksum(d.bytes(leaf), castagnoli)
	}
	return d, nil
}
