package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	policy "github.com/telemesh/telemesh/policy-check"
)

func TestTapShowsAndFilters(t *testing.T) {
	hub := newFakeHub(t)
	all := hub.run(t, "tap", "--limit", "7")
	if all.code != 0 {
		t.Fatalf("exit code %d: %s", all.code, all.errors)
	}
	golden(t, "tap.txt", all.out)
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"--status", "429"}, 2},
		{[]string{"--status", "4xx"}, 2},
		{[]string{"--status", "error"}, 1},
		{[]string{"--service", "details"}, 2},
		{[]string{"--from", "default/productpage-v1"}, 3},
		{[]string{"--to", "ratings"}, 2},
		{[]string{"--min-ms", "13"}, 2},
		{[]string{"--method", "get", "--path", "/reviews"}, 1},
		{[]string{"--method", "POST"}, 0},
		{[]string{"--max-rps", "3"}, 3},
	} {
		got := hub.run(t, append([]string{"tap"}, tc.args...)...)
		// The fake hub closes the stream after its records.
		if lines := strings.Count(got.out, "\n"); lines != tc.want || got.code != CodeUnreachable {
			t.Errorf("tap %v: %d lines, exit code %d, want %d, %d", tc.args, lines, got.code, tc.want, CodeUnreachable)
		}
		if !strings.Contains(got.errors, "the hub left requests out") {
			t.Errorf("tap %v does not tell what is left out: %s", tc.args, got.errors)
		}
	}
	hub.run(t, "tap", "--status", "5xx", "--service", "ratings", "--min-ms", "1.5", "--method", "GET")
	if got := hub.tapQuery.Load(); got != "min_ms=1.5&service=ratings&status=5xx" {
		t.Errorf("query %v", got)
	}
}

func TestTapNamesTheStatusOfGRPC(t *testing.T) {
	for _, tc := range []struct {
		record topologyv1.Record
		want   string
	}{
		{topologyv1.Record{Code: 200, GRPCStatus: "14", DurationMs: 1}, "  UNAVAILABLE 1.00ms"},
		{topologyv1.Record{Code: 200, GRPCStatus: "0", DurationMs: 1}, "  OK 1.00ms"},
		{topologyv1.Record{Code: 200, DurationMs: 1}, "  200 1.00ms"},
		{topologyv1.Record{DurationMs: 1}, "  - 1.00ms"},
	} {
		if got := compactLine(&tc.record, render.Style{}); !strings.Contains(got, tc.want) {
			t.Errorf("%q is missing in %q", tc.want, got)
		}
	}
}

func TestTapReadsItsOwnOutput(t *testing.T) {
	saved := newFakeHub(t).run(t, "tap", "-o", "json", "--limit", "7").out
	golden(t, "tap.jsonl", saved)
	file := filepath.Join(t.TempDir(), "day.jsonl")
	if err := os.WriteFile(file, []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	again := (&world{}).run(t, "tap", "--input", file, "-o", "json")
	if again.code != 0 || again.out != saved {
		t.Errorf("exit code %d: what was read is not what was written:\n%s%s", again.code, again.out, again.errors)
	}
	fromStdin := (&world{stdin: saved}).run(t, "tap", "--input", "-", "--status", "429")
	if fromStdin.code != 0 || strings.Count(fromStdin.out, "\n") != 2 {
		t.Errorf("exit code %d, %s%s", fromStdin.code, fromStdin.out, fromStdin.errors)
	}
	bad := (&world{stdin: saved + "nonsense\n"}).run(t, "tap", "--input", "-")
	if bad.code != CodeFailure || !strings.Contains(bad.errors, "line 8 is not a record") {
		t.Errorf("exit code %d, %s", bad.code, bad.errors)
	}
}

const goodPolicy = `apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: NAME}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - name: at-most-50
    limit:
      rates: [{limit: 50, window: 1s}]
`

func TestPolicyLint(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lint := func(args ...string) outcome {
		o := (&world{stdin: goodPolicy}).run(t, append([]string{"policy", "lint"}, args...)...)
		o.out = strings.ReplaceAll(o.out, dir+string(filepath.Separator), "")
		return o
	}
	one := write("one.yaml", strings.ReplaceAll(goodPolicy, "NAME", "one"))
	fine := lint(one)
	if fine.code != 0 {
		t.Fatalf("exit code %d: %s", fine.code, fine.errors)
	}
	golden(t, "lint.txt", fine.out)

	write("two.yml", strings.ReplaceAll(goodPolicy, "NAME", "one"))
	write("three.yaml", strings.ReplaceAll(strings.ReplaceAll(goodPolicy, "NAME", "three"), "rates:", "rate:"))
	write("notes.txt", "no policy")
	bad := lint(dir)
	if bad.code != CodeProblems {
		t.Errorf("exit code %d, want %d: %s", bad.code, CodeProblems, bad.errors)
	}
	golden(t, "lint-problems.txt", bad.out)

	if got := lint("-"); got.code != CodeProblems || !strings.HasPrefix(got.out, "stdin:3:") {
		t.Errorf("upper-case name: exit code %d, %s", got.code, got.out)
	}
	if got := lint(filepath.Join(dir, "nosuch.yaml")); got.code != CodeFailure {
		t.Errorf("missing file: exit code %d, want %d", got.code, CodeFailure)
	}
	if got := lint(write("large.yaml", strings.Repeat("#", maxPolicyBytes+10))); got.code != CodeProblems || !strings.Contains(got.out, "is larger than") {
		t.Errorf("large file: exit code %d, %s", got.code, got.out)
	}
	if _, problems := policy.Parse("one.yaml", []byte(strings.ReplaceAll(goodPolicy, "NAME", "one"))); len(problems) > 0 {
		t.Errorf("lint and parser disagree: %v", problems)
	}
}
