package record

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/internal/vocab"
)

func genRecord(t *rapid.T) Record {
	id16 := rapid.SliceOfN(rapid.Byte(), 16, 16)
	id8 := rapid.SliceOfN(rapid.Byte(), 8, 8)
	text := rapid.StringN(0, 12, 40)
	r := Record{
		Start:       time.Unix(0, rapid.Int64Range(0, 1<<61).Draw(t, "start")),
		Duration:    time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "duration")),
		FirstByte:   time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "first")),
		RequestID:   text.Draw(t, "request id"),
		Edge:        rapid.Uint32().Draw(t, "edge"),
		Protocol:    rapid.SampledFrom([]string{"http", "grpc", "tcp"}).Draw(t, "protocol"),
		HTTPVersion: "HTTP/1.1",
		Method:      text.Draw(t, "method"),
		Path:        text.Draw(t, "path"),
		Host:        text.Draw(t, "host"),
		Route:       text.Draw(t, "route"),
		Code:        rapid.Uint32Range(0, 599).Draw(t, "code"),
		GRPCStatus:  rapid.Uint32Range(0, 17).Draw(t, "grpc"),
		Flags:       text.Draw(t, "flags"),
		Detail:      text.Draw(t, "detail"),
		BytesIn:     rapid.Uint64().Draw(t, "in"),
		BytesOut:    rapid.Uint64().Draw(t, "out"),
		Attempts:    rapid.Uint32().Draw(t, "attempts"),
		Upstream:    text.Draw(t, "upstream"),
		Verdict:     text.Draw(t, "verdict"),
		Rule:        text.Draw(t, "rule"),
		UserAgent:   text.Draw(t, "agent"),
		Sampled:     rapid.Bool().Draw(t, "sampled"),
	}
	copy(r.TraceID[:], id16.Draw(t, "trace"))
	copy(r.SpanID[:], id8.Draw(t, "span"))
	copy(r.ParentSpanID[:], id8.Draw(t, "parent"))
	if m := rapid.MapOfN(text, text, 0, 3).Draw(t, "attributes"); len(m) > 0 {
		r.Attributes = m
	}
	return r
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	enc, dec := newPair(t)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(genRecord), 1, 40).Draw(t, "records")
		got, err := dec.Decode(enc.Append(nil, BlockOf(want)), len(want))
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if diff := cmp.Diff(want[i], got.Record(i)); diff != "" {
				t.Fatalf("row %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestDecodeTakesMoreThan256DictionaryEntries(t *testing.T) {
	enc, dec := newPair(t)
	rs := make([]Record, 1000)
	for i := range rs {
		rs[i] = Record{Start: time.Unix(0, int64(i)), Path: time.Duration(i).String()}
	}
	got, err := dec.Decode(enc.Append(nil, BlockOf(rs)), len(rs))
	if err != nil {
		t.Fatal(err)
	}
	if p := got.Record(999).Path; p != rs[999].Path {
		t.Errorf("path = %q, want %q", p, rs[999].Path)
	}
}

func TestDecodeRefusesAWrongRowCount(t *testing.T) {
	enc, dec := newPair(t)
	if _, err := dec.Decode(enc.Append(nil, BlockOf(make([]Record, 3))), 4); !errors.Is(err, ErrCorrupt) {
		t.Errorf("err = %v, want ErrCorrupt", err)
	}
}

func FuzzDecode(f *testing.F) {
	enc, err := NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	dec, err := NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.Append(nil, BlockOf([]Record{{Start: time.Unix(1, 0), Path: "/a"}, {Start: time.Unix(2, 0), Path: "/b"}})), 2, false)
	f.Add([]byte{1, 1, 1, 1, 1, 0}, 1, true)
	f.Fuzz(func(t *testing.T, b []byte, rows int, compress bool) {
		if rows < 0 || rows > 1<<12 {
			return
		}
		if compress { // reach the column parser behind zstd's checks
			b = enc.zstd.EncodeAll(b, nil)
		}
		c, err := dec.Decode(b, rows)
		if err != nil {
			return
		}
		for i := range c.Rows() {
			c.Record(i)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	enc, _ := newPair(b)
	// As a busy sidecar sends them: one block, random ids, one service's routes.
	const rows = 256
	rs := make([]Record, rows)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range rs {
		r := &rs[i]
		*r = Record{
			Start: time.Unix(1_700_000_000, int64(i)*25_000), Duration: time.Duration(random.IntN(1_000_000)), FirstByte: time.Duration(random.IntN(900_000)),
			Protocol: "http", HTTPVersion: "HTTP/1.1", Method: "GET", Path: "/reviews/" + strconv.Itoa(i%7), Host: "reviews:9080", Route: "inbound|reviews",
			Code: 200, Detail: "via_upstream", BytesIn: 214, BytesOut: 1181, Attempts: 1, Upstream: "127.0.0.1:9080", Verdict: "ok", UserAgent: "Mozilla/5.0",
			Sampled: true,
		}
		for _, id := range [][]byte{r.TraceID[:], r.SpanID[:], r.ParentSpanID[:]} {
			for j := range id {
				id[j] = byte(random.Uint32())
			}
		}
	}
	var dst []byte
	var block Block
	b.ReportAllocs()
	for b.Loop() {
		block.Reset()
		for i := range rs {
			block.Add(&rs[i])
		}
		dst = enc.Append(dst[:0], &block)
	}
	b.ReportMetric(float64(len(dst))/rows, "B/record")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/record")
}

func newPair(t testing.TB) (*Encoder, *Decoder) {
	t.Helper()
	enc, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dec.Close)
	return enc, dec
}

func TestColumnsAreHandedOutAsStored(t *testing.T) {
	enc, dec := newPair(t)
	rs := []Record{
		{Start: time.Unix(0, 5), TraceID: [16]byte{1}, Path: "/a", Code: 200, Attributes: map[string]string{"k": "v&w"}},
		{Start: time.Unix(0, 3), TraceID: [16]byte{2}, Path: "/b"},
	}
	c, err := dec.Decode(enc.Append(nil, BlockOf(rs)), len(rs))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{5, 3}, c.Ints(vocab.ColStart)); diff != "" {
		t.Error("start", diff)
	}
	if got := c.Ints(vocab.ColBytesIn); got != nil {
		t.Errorf("a column that was left out: %v", got)
	}
	if got := c.Fixed(vocab.ColTraceID, 16); len(got) != 32 || got[16] != 2 {
		t.Errorf("trace IDs: %x", got)
	}
	if got := c.Fixed(vocab.ColSpanID, 16); got != nil {
		t.Errorf("span IDs of another width: %x", got)
	}
	if dict, codes := c.Texts(vocab.ColPath); len(dict) != 2 || dict[codes[1]] != "/b" {
		t.Errorf("paths: %q %v", dict, codes)
	}
	dict, codes := c.Texts(vocab.ColAttributes)
	if diff := cmp.Diff(rs[0].Attributes, SplitAttributes(dict[codes[0]])); diff != "" {
		t.Error("attributes", diff)
	}
}
