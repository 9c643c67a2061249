package sql

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var seeds = []string{
	"select * from records", "select count(*) as n, sum(duration)/1e6 from records where start >= now() - interval '15 minutes' group by all",
	`select destination_canonical_service as "to", quantile(duration, 0.99) from records group by 1 having count(*) > 3 order by 2 desc nulls first limit 10 offset 2;`,
	"select attributes['tenant'], count(distinct trace_id) filter (where code >= 500 or not sampled) from records where path like '/a%' and code in (1, 2) group by 1",
	"select cast(code as varchar) || '-' || method, -duration::double from records where grpc_status is not null and duration between 1 and 2 -- end",
	"select date_trunc('minute', start), time_bucket(interval 5 minutes, start) from records where start < timestamp '2026-01-01 00:00' /* x */",
	"select case when 1 then 2 end from records", "with x as (select 1) select 2", "select (((((1", "select 'a", "select 1 from records join b", "\x00\xff",
	"select 9223372036854775807 + 1, -9223372036854775808, 1e400, interval '1e300 days' from records", "select x as x from records where x", "select - - - -1 from records",
}

// FuzzParse looks for queries that do not end in an answer or in an error with a
// place in the text.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err == nil {
			_, err = Run(t.Context(), q, nil, Options{Now: time.Unix(1e9, 0)})
		}
		var wrong *Error
		var unsupported *UnsupportedError
		var pos Pos
		switch {
		case errors.As(err, &wrong):
			pos = wrong.Pos
		case errors.As(err, &unsupported):
			pos = unsupported.Pos
		case err == nil, errors.Is(err, errOverflow):
			return
		default:
			t.Fatalf("%q: %v", text, err)
		}
		if lines := strings.Count(text, "\n") + 1; pos.Line < 1 || pos.Line > lines || pos.Column < 1 || pos.Column > len(text)+1 {
			t.Fatalf("%q: %v is not in it", text, err)
		}
	})
}

func TestErrorsNameThePlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "1:1: the query ends here: want select",
		"select":                              "1:7: the query ends here",
		"select 1\nfrom recods":               "2:6: there is no table recods",
		"select x from records":               "1:8: there is no column x",
		"select service from records":         "did you mean source_canonical_service or",
		"select 'a' < 1 from records":         "1:14: 'a' is a varchar and bigint 1 a bigint",
		"select path from records where code": "1:32: code is a bigint; want a boolean",
		"select path, count(*) from records":  "1:8: path is neither in GROUP BY nor in an aggregate",
		"select count(*) from records where count(*) > 1":    "1:36: count is an aggregate, which WHERE",
		"select path from records order by 3":                "1:35: ORDER BY 3: SELECT has 1 columns",
		"select quantile(duration, 2) from records":          "1:27: want a constant from 0 to 1",
		"select path from records where start > 'yesterday'": "'2026-01-31 12:00:00'",
		"select path from records where trace_id = 'x'":      "32 hexadecimal digits",
		"select interval '3 moons' from records":             "1:17: 3 moons is no interval",
		"select x as x from records":                         "1:8: there is no column x",
		"select interval 1 month from records":               "1:17: 1 month is no interval",
		"select path from records where path = 'a":           "1:39: the text that begins here has no end",
		"select sum(path) from records":                      "1:8: sum of a varchar",
	} {
		q, err := Parse(text)
		if err == nil {
			err = Check(q)
		}
		var wrong *Error
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestWhatIsOutsideOfTheSubsetIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"select case when 1 then 2 end from records":        "1:8: CASE",
		"with x as (select 1) select * from x":              "1:1: WITH",
		"select distinct path from records":                 "1:8: DISTINCT",
		"select * from records join b using (x)":            "1:23: JOIN",
		"select * from read_parquet('x')":                   "1:15: the table function read_parquet",
		"select * from (select 1)":                          "1:15: a query in FROM",
		"select count(*) over () from records":              "1:17: OVER",
		"select 1 from records union select 2 from records": "1:23: UNION",
		"select regexp_matches(path, 'x') from records":     "1:8: the function regexp_matches",
		"select path from records where path in (select 1)": "1:41: a query in IN",
		"select sum(distinct code) from records":            "1:8: sum(distinct",
		"select date_trunc('month', start) from records":    "1:19: date_trunc to 'month'",
		"select records.path from records":                  "1:8: a name with a dot",
		"select * from records, records":                    "1:22: a second table",
		"select * exclude (path) from records":              "1:10: EXCLUDE",
		"select code::decimal(3, 1) from records":           "1:14: the type decimal",
	} {
		q, err := Parse(text)
		if err == nil {
			err = Check(q)
		}
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "DuckDB") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
