package sql

import "testing"

// benchRows make about 40 row groups.
const benchRows = 320_000

// BenchmarkQuery tells rows a second of queries that look at all rows.
func BenchmarkQuery(b *testing.B) {
	segments := openTest(b, sealTest(b, 1, benchRows))
	for _, tc := range []struct{ name, text string }{
		{"Services", "select source_canonical_service, destination_canonical_service, count(*), sum(duration), max(duration) from records group by all"},
		{"Codes", "select destination_workload, code, count(*) from records group by all"},
		{"Quantile", "select destination_workload, quantile(duration, 0.99) from records group by all"},
		{"Minutes", "select date_trunc('second', start) as s, avg(duration / 1e6) from records where method = 'GET' and bytes_in > 400 group by s"},
		{"Distinct", "select count(distinct trace_id) from records"},
		{"Slowest", "select start, path, duration from records order by duration desc limit 10"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			var rows int64
			for b.Loop() {
				rows += mustRun(b, segments, tc.text).Scanned
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}
