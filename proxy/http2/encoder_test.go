package http2

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"
)

// An encoder's blocks, read by x/net's decoder, are the fields that went in,
// whatever came before and however the table is resized.
func TestTheEncodersBlocksAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e encoder
		e.limit = 4096
		d := hpack.NewDecoder(4096, nil)
		name := rapid.SampledFrom([]string{":method", ":path", "x-request-id", "content-type", "cookie", "a", "b", "accept-encoding", strings.Repeat("n", 90)})
		value := rapid.OneOf(rapid.SampledFrom([]string{"GET", "/", "", "application/grpc", "gzip, deflate"}), rapid.StringMatching(`[ -~]{0,40}`), rapid.StringMatching(`[a-z]{200,300}`))
		for range rapid.IntRange(1, 12).Draw(t, "blocks") {
			for range rapid.IntRange(0, 2).Draw(t, "resizes") {
				limit := rapid.SampledFrom([]int{0, 60, 500, 4096}).Draw(t, "limit")
				e.resize(limit)
			}
			want := make([]hpack.HeaderField, 0, 10)
			block := e.begin(nil)
			for range rapid.IntRange(0, 10).Draw(t, "fields") {
				f := hpack.HeaderField{Name: name.Draw(t, "name"), Value: value.Draw(t, "value"), Sensitive: rapid.IntRange(0, 9).Draw(t, "sensitive") == 0}
				want = append(want, f)
				block = e.field(block, &f)
			}
			got, err := d.DecodeFull(block)
			if err != nil {
				t.Fatalf("block %x: %v", block, err)
			}
			if len(got) != len(want) {
				t.Fatalf("%d fields, want %d", len(got), len(want))
			}
			for i := range got {
				if got[i].Name != want[i].Name || got[i].Value != want[i].Value {
					t.Fatalf("field %d is %v, want %v", i, got[i], want[i])
				}
			}
		}
	})
}

func TestAWarmEncoderWritesIndexes(t *testing.T) {
	var e encoder
	e.limit = 4096
	fields := grpcHead("0")
	for i := range fields {
		e.field(nil, &fields[i])
	}
	for i := range fields {
		if got := e.field(nil, &fields[i]); len(got) != 1 && !volatile(fields[i].Name) {
			t.Errorf("%v is %x the second time, want one byte", fields[i], got)
		}
	}
}

func grpcHead(id string) []hpack.HeaderField {
	var fields []hpack.HeaderField
	for _, f := range [...][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/shop.Cart/Add"}, {":authority", "cart:9080"}, {"content-type", "application/grpc"},
		{"te", "trailers"}, {"user-agent", "grpc-go/1.85"}, {"x-request-id", "id-" + id}, {"traceparent", "00-" + id},
	} {
		fields = append(fields, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return fields
}

func BenchmarkEncodeHead(b *testing.B) {
	heads := make([][]hpack.HeaderField, 64)
	for i := range heads {
		heads[i] = grpcHead(fmt.Sprintf("%032x", i))
	}
	b.Run("ours", func(b *testing.B) {
		var e encoder
		e.limit = 4096
		var block []byte
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			block = block[:0]
			for j := range heads[i%64] {
				block = e.field(block, &heads[i%64][j])
			}
		}
		b.ReportMetric(float64(len(block)), "B/block")
	})
	b.Run("x_net", func(b *testing.B) {
		var block writer
		e := hpack.NewEncoder(&block)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			block = block[:0]
			for _, f := range heads[i%64] {
				f.Sensitive = volatile(f.Name)
				_ = e.WriteField(f) // a slice takes everything
			}
		}
		b.ReportMetric(float64(len(block)), "B/block")
	})
}
