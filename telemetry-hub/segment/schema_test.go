package segment

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
)

// futureSegment is a segment as a newer program could write it: of schema 7,
// without user_agent, with a text column and one of a kind that is not known
// instead, and with another part in its index.
func futureSegment(t *testing.T, d *Decoder) (files, []Found) {
	t.Helper()
	path, all := smallSegment(t)
	f := readFiles(t, path)
	s, _, err := f.open(d)
	if err != nil {
		t.Fatal(err)
	}
	renamed := map[Column]column{UserAgent: {"tariff", kindText}, FirstByte: {"cost", 200}}
	tail := futureFooter(t, f.data[s.header.footer:], renamed)
	columns := slices.Clone(s.columns)
	for c, to := range renamed {
		columns[s.leaf[c]] = to
	}
	x := newIndexBuilder(s.header.seed, 7, columns)
	for i := range s.header.groups {
		g, facts, err := s.readFacts(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		x.add(facts, g.group)
	}
	f.data = append(f.data[:s.header.footer:s.header.footer], tail...)
	f.index = x.encode(int64(len(f.data)), tail)
	for i := range all {
		all[i].Record.UserAgent, all[i].Record.FirstByte = "", 0
	}
	return f, all
}

func futureFooter(t *testing.T, tail []byte, renamed map[Column]column) []byte {
	t.Helper()
	meta, err := readFooter(tail)
	if err != nil {
		t.Fatal(err)
	}
	for i := range meta.Schema {
		for c, to := range renamed {
			if meta.Schema[i].Name == c.String() {
				meta.Schema[i].Name = to.name
			}
		}
	}
	for i := range meta.RowGroups {
		for c, to := range renamed {
			meta.RowGroups[i].Columns[c].MetaData.PathInSchema = []string{to.name}
		}
	}
	for i := range meta.KeyValueMetadata {
		if meta.KeyValueMetadata[i].Key == keySchema {
			meta.KeyValueMetadata[i].Value = "7"
		}
	}
	b, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(b))), parquetMagic...)
}

func TestSegmentsOfOtherSchemasAreReadVerifiedAndMerged(t *testing.T) {
	d := newTestDecoder(t)
	future, wantFuture := futureSegment(t, d)
	newer, _, err := future.open(d)
	if err != nil {
		t.Fatal(err)
	}
	rs, edges := goldenRecords()
	wantOld := expected(newCodec(t).batch(t, rs, edges, "pod-1"))
	old := openAt(t, "testdata/v1.parquet", d)
	today, wantToday := smallSegment(t)
	for _, c := range []struct {
		name    string
		s       *Segment
		version uint64
		unknown []string
		want    []Found
	}{
		{"schema 1", old, 1, nil, wantOld},
		{"a newer schema", newer, 7, []string{"cost", "tariff"}, wantFuture},
	} {
		if c.s.version != c.version || !slices.Equal(slices.Sorted(slices.Values(c.s.UnknownColumns())), c.unknown) {
			t.Errorf("%s: version %d, unknown %v", c.name, c.s.version, c.s.UnknownColumns())
		}
		if err := c.s.Verify(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := diffFound(slices.Clone(c.want), scanAll(t, c.s, Query{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
	merged := filepath.Join(t.TempDir(), "1.parquet")
	all := slices.Concat(wantOld, wantFuture, wantToday)
	summary := mustMerge(t, merged, MergeOptions{}, newer, old, openAt(t, today, d))
	if summary.Rows != len(all) || summary.SkippedGroups != 0 {
		t.Errorf("%+v", summary)
	}
	s := openAt(t, merged, d)
	if s.version != schemaVersion || s.UnknownColumns() != nil {
		t.Errorf("merged to version %d with %v", s.version, s.UnknownColumns())
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := diffFound(slices.Clone(all), scanAll(t, s, Query{})); diff != "" {
		t.Error("merged (-want +got)\n", diff)
	}
	if diff := diffFound(all, readOpen(t, merged)); diff != "" {
		t.Error("merged, as parquet-go reads it (-want +got)\n", diff)
	}
}

// TestAnUnknownColumnIsStillSummed flips a bit in the column of an unknown kind.
func TestAnUnknownColumnIsStillSummed(t *testing.T) {
	d := newTestDecoder(t)
	f, _ := futureSegment(t, d)
	s, _, err := f.open(d)
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.groupData(1)
	if err != nil {
		t.Fatal(err)
	}
	leaf := slices.IndexFunc(s.columns, func(c column) bool { return c.kind == 200 })
	f.data[g.at[leaf]+40] ^= 1
	if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "row group 1, column cost") {
		t.Error(err)
	}
	if _, err := Reindex(t.Context(), LocalRange{bytes.NewReader(f.data)}, int64(len(f.data)), 1, Options{Decoder: d}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Error("a newer file is indexed without its columns:", err)
	}
}

// TestEveryFieldOfARecordIsInTheMerge keeps Merge and the schema in step: a
// column that is added must be carried over.
func TestEveryFieldOfARecordIsInTheMerge(t *testing.T) {
	rs, edges := goldenRecords()
	one := newCodec(t).batch(t, rs[:1], edges[:1], "pod-1")
	d := newTestDecoder(t)
	merged := filepath.Join(t.TempDir(), "1.parquet")
	mustMerge(t, merged, MergeOptions{}, openAt(t, build(t, BuilderOptions{}, one), d))
	s := openAt(t, merged, d)
	g, err := s.groupData(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for c := range numColumns {
		e, _, err := g.column(c)
		if err != nil {
			t.Fatal(err)
		}
		if e.kind == kindText && string(e.dict) == "\x00\x00\x00\x00" {
			t.Errorf("%s is empty", c)
		}
	}
	if got := scanAll(t, s, Query{}); len(got) != 1 || diffFound(expected(one), got) != "" {
		t.Error(diffFound(expected(one), got))
	}
}
