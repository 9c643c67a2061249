package sql

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/duckdb"
)

// TestAnswersEqualDuckDBs runs the same text in both. Moments are compared as
// texts of seconds, because DuckDB cuts nanoseconds.
func TestAnswersEqualDuckDBs(t *testing.T) {
	paths := sealTest(t, 2, 12_000)
	segments := openTest(t, paths)
	queries := map[string]string{
		"sums":      "select count(*) as n, sum(duration) as d, avg(bytes_out) as b, min(code) as lo, max(code) as hi, count(grpc_status) as g from records",
		"services":  "select destination_canonical_service as s, reporter as r, count(*) as n, sum(bytes_in) as b from records group by s, r having count(*) > 10",
		"quantiles": "select destination_workload as w, quantile(duration, 0.9) as p90, quantile_cont(duration, 0.5) as p50, quantile(duration / 1e6, 0.99) as p99 from records group by all",
		"errors":    "select code as c, flags as f, count(distinct trace_id) as t from records where code >= 500 or grpc_status > 0 group by 1, 2",
		"filter":    "select method as m, count(*) filter (where code >= 500) as e, count(*) filter (where attributes['tier'] = '1') as a from records group by 1",
		"tenants":   "select coalesce(attributes['tenant'], 'none') as t, count(*) as n, max(path) as p from records where path like '/r%/_%' and not sampled group by t",
		"nulls":     "select grpc_status as g, count(*) as n from records where grpc_status is null or grpc_status in (1, 5, 9) group by g",
		"numbers":   "select duration % 7 as a, duration // 1000000 as b, round(duration / 1e6, 2) as c, -code as d, code * 2 + 1 as e, upper(path) || '!' as f from records where duration between 3000000 and 3010000",
		"times":     "select count(*) as n, cast(time_bucket(interval '7 seconds', start) = date_trunc('second', start) as int) as x from records where start >= timestamptz '2026-11-21 10:00:03Z' and start < timestamptz '2026-11-21 10:00:20Z' group by x",
		"order":     "select path as p, grpc_status as g, duration as d from records where destination_workload <> 'details-v1' order by grpc_status desc, path, duration limit 50 offset 7",
		"empty":     "select count(*) as n, sum(duration) as d, max(path) as p, avg(code) as a from records where path = 'nowhere'",
		"logic":     "select count(*) as n from records where not (grpc_status > 3 and sampled) and (attributes['tier'] <> '0') is null and length(path) > 9 and path ilike '%S/%'",
	}
	view := "(select * from read_parquet(['" + strings.Join(paths, "', '") + "']))"
	theirs := make(map[string]string)
	for name, text := range queries {
		theirs[name] = strings.Replace(text, "from records", "from "+view+" as records", 1)
	}
	var answers map[string][]map[string]any
	duckdb.Ask(t, theirs, &answers)
	for name, text := range queries {
		r := mustRun(t, segments, text)
		var got, want []string
		for _, row := range r.Rows {
			var parts []string
			for i, v := range row {
				parts = append(parts, r.Columns[i]+"="+comparable(v.String(), v.Kind == KindNull))
			}
			slices.Sort(parts)
			got = append(got, strings.Join(parts, " "))
		}
		for _, row := range answers[name] {
			var parts []string
			for column, v := range row {
				parts = append(parts, column+"="+comparable(fmt.Sprint(v), v == nil))
			}
			slices.Sort(parts)
			want = append(want, strings.Join(parts, " "))
		}
		if name != "order" {
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("%s\n%s\ngot  %.1500s\nwant %.1500s", name, text, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// comparable writes numbers alike: query.mjs gives some as texts.
func comparable(s string, null bool) string {
	if null {
		return "null"
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return s
	}
	return strconv.FormatFloat(f, 'g', 10, 64)
}
