package bucket

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const benchRows = 500_000

// benchFind looks traces up and tells how long it takes.
func benchFind(b *testing.B, p *place, cold bool) {
	h := p.hub(b, "hub-1")
	m := upload(b, h, oneLog("hub-1", 1), testStart, 0, benchRows)
	s := mustOpen(b, h, m)
	if !cold {
		for i := range 2000 {
			mustFind(b, s, i*(benchRows/4000))
		}
	}
	before := h.Stats()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		if cold {
			h.cache.dropObject(m.Records.Name)
		}
		from := time.Now()
		mustFind(b, s, i*7919%(benchRows/2))
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	after := h.Stats()
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(after.Gets-before.Gets)/float64(len(took)), "gets/op")
	b.ReportMetric(float64(after.GetBytes-before.GetBytes)/float64(len(took))/1000, "kB/op")
}

func BenchmarkFind(b *testing.B) {
	for _, cold := range []bool{true, false} {
		name := map[bool]string{true: "cold", false: "warm"}[cold]
		b.Run(name+"/s3", func(b *testing.B) {
			p := s3Place(b)
			p.config = p.direct
			benchFind(b, p, cold)
		})
		b.Run(name+"/folder", func(b *testing.B) { benchFind(b, folderPlace(b), cold) })
	}
}

func BenchmarkUpload(b *testing.B) {
	for _, name := range []string{"s3", "folder"} {
		b.Run(name, func(b *testing.B) {
			var p *place
			if name == "s3" {
				p = s3Place(b)
				p.config = p.direct
			} else {
				p = folderPlace(b)
			}
			h := p.hub(b, "hub-1")
			path := filepath.Join(b.TempDir(), "1.parquet")
			sum := seal(b, path, 1, testStart, 0, benchRows)
			b.SetBytes(sum.DataBytes + sum.IndexBytes)
			n := uint64(0)
			for b.Loop() {
				n++
				if _, err := h.Upload(b.Context(), path, oneLog("hub-1", n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
