package command

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoreQueryAnswers(t *testing.T) {
	dir, unsealed := newStoreFolder(t, 8000)
	const text = `select destination_canonical_service as service, count(*) as n, count(*) filter (where code >= 500) as failed,
		quantile(duration, 0.5) / 1e6 as p50 from records where reporter = 'source' group by service order by service`
	got := (&world{}).run(t, "store", "query", dir, text, "-o", "json")
	var rows []struct {
		Service   string
		N, Failed int
		P50       float64
	}
	if err := json.Unmarshal([]byte(got.out), &rows); err != nil || got.code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", got.code, err, got.out, got.errors)
	}
	if want := fmt.Sprintf("%d records in 1 log are not sealed yet", unsealed); !strings.Contains(got.errors, want) {
		t.Errorf("%q is missing in %q", want, got.errors)
	}
	var stats storeStats
	if err := json.Unmarshal([]byte((&world{}).run(t, "store", "stats", dir, "-o", "json").out), &stats); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(stats.Services) {
		t.Fatalf("%d services, stats has %d", len(rows), len(stats.Services))
	}
	for _, r := range rows {
		for _, s := range stats.Services {
			if s.Service == r.Service && (uint64(r.N) != s.SourceRows || 2*uint64(r.Failed) != s.Errors || r.P50 <= 0) {
				t.Errorf("%+v, stats has %+v", r, s)
			}
		}
	}
	table := (&world{}).run(t, "store", "query", dir, text)
	if !strings.Contains(table.out, "SERVICE") || strings.Count(table.out, "\n") != len(rows)+1 {
		t.Errorf("table\n%s", table.out)
	}
	lines, err := csv.NewReader(strings.NewReader((&world{}).run(t, "store", "query", dir, text, "-o", "csv").out)).ReadAll()
	if err != nil || len(lines) != len(rows)+1 || lines[0][3] != "p50" {
		t.Errorf("%v, CSV %v", err, lines)
	}
}

func TestStoreQueryTellsOfDamage(t *testing.T) {
	dir, _ := newStoreFolder(t, 8000)
	flip(t, firstSegment(dir), 60)
	got := (&world{}).run(t, "store", "query", dir, "select max(start) from records")
	if got.code != CodeFailure || !strings.Contains(got.errors, "row group 0, column start") || !strings.Contains(got.out, "2026-11-21T") {
		t.Errorf("exit code %d, %s%s", got.code, got.out, got.errors)
	}
}

func TestStoreQueryRefuses(t *testing.T) {
	dir, _ := newStoreFolder(t, 8000)
	t.Setenv("PATH", t.TempDir()) // without DuckDB
	for _, tc := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"selec 1"}, CodeUsage, []string{"1:1: want select"}},
		{[]string{"select durration from records"}, CodeUsage, []string{"1:8: there is no column durration"}},
		{[]string{"select case when 1=1 then 2 end from records"}, CodeUsage, []string{"1:8: CASE", "DuckDB does it", "install the program duckdb"}},
		{[]string{"with x as (select 1) select 2", "--engine", "embedded"}, CodeUsage, []string{"1:1: WITH", "--engine duckdb"}},
		{[]string{"select 1 from records", "--engine", "duckdb"}, CodeFailure, []string{"not in PATH", "--engine embedded"}},
		{[]string{"select 1 from records", "--engine", "sqlite"}, CodeUsage, []string{"auto, embedded or duckdb"}},
		{[]string{"select span_id, count(*) from records group by 1", "--memory", "1"}, CodeFailure, []string{"more than 1 MiB", "--memory"}},
	} {
		got := (&world{}).run(t, append([]string{"store", "query", dir}, tc.args...)...)
		if got.code != tc.code || got.out != "" {
			t.Errorf("%v: exit code %d, want %d: %s", tc.args, got.code, tc.code, got.out)
		}
		for _, want := range tc.says {
			if !strings.Contains(got.errors, want) {
				t.Errorf("%v: %q is missing in %q", tc.args, want, got.errors)
			}
		}
	}
}

// TestStoreQueryHandsToDuckDB has a program of that name say what it was asked.
func TestStoreQueryHandsToDuckDB(t *testing.T) {
	dir, _ := newStoreFolder(t, 8000)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "duckdb"), []byte("#!/bin/sh\nfor a; do echo \"[$a]\"; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	const text = "select count(*) over () from records"
	got := (&world{}).run(t, "store", "query", dir, text, "-o", "csv")
	for _, want := range []string{"[-csv]", "[" + text + "]", "read_parquet(['" + firstSegment(dir) + "', '", "union_by_name = true"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is missing in\n%s%s", want, got.out, got.errors)
		}
	}
	if !strings.Contains(got.errors, "1:17: OVER") {
		t.Errorf("stderr %q", got.errors)
	}
	if got := (&world{}).run(t, "store", "query", dir, "select count(*) as n from records"); strings.Contains(got.out, "[") {
		t.Errorf("DuckDB was asked for nothing: %s", got.out)
	}
}
