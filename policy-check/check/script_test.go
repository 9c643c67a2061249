package check

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/lease"
)

var update = flag.Bool("update", false, "write what the scripts in testdata answer")

// TestScripts runs testdata/*.txt: a command with its input, a line of dashes,
// and the answer. Commands are
//
//	policy        the YAML that follows is put in force
//	check         one request per line, as field=value pairs
//	advance 1s    the clock moves
//	counters      what was counted since the policy was first put in force
//
// Limits run without a hub, as the only sidecar: a local bucket at the policy's
// full rate.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript().run(t, string(data))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type script struct {
	now     time.Time
	checker *Checker
	draw    float64
}

func newScript() *script {
	s := &script{now: time.Unix(1_700_000_000, 0)}
	clock := func() time.Time { return s.now }
	s.checker = New(Options{
		Namespace: "shop", Service: "ratings", Clock: clock,
		Leases: lease.NewClient(lease.ClientOptions{Sidecar: "test", Clock: clock}),
		Rand:   func() float64 { return s.draw },
	})
	return s
}

const dashes = "----\n"

// run answers a script. Blocks are separated by empty lines; comments between
// blocks are kept.
func (s *script) run(t *testing.T, text string) string {
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		if strings.HasPrefix(block, "#") {
			out.WriteString(strings.TrimRight(block, "\n") + "\n")
			continue
		}
		input, _, _ := strings.Cut(block+"\n", dashes)
		command, rest, _ := strings.Cut(input, "\n")
		out.WriteString(input + dashes + s.answer(t, command, rest))
	}
	return out.String()
}

func (s *script) answer(t *testing.T, command, input string) string {
	name, argument, _ := strings.Cut(command, " ")
	switch name {
	case "policy":
		ps, problems := policy.Parse("p.yaml", []byte(input))
		if len(problems) > 0 {
			return problems[0].Error() + "\n"
		}
		if err := s.checker.Apply(ps); err != nil {
			return err.Error() + "\n"
		}
		return "in force\n"
	case "check":
		var out strings.Builder
		for line := range strings.Lines(input) {
			out.WriteString(s.check(t, line))
		}
		return out.String()
	case "advance":
		d, err := time.ParseDuration(argument)
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return "now\n"
	case "counters":
		var out strings.Builder
		for _, c := range s.checker.Counters() {
			fmt.Fprintf(&out, "%s %s %s %s %d\n", c.Policy, c.Rule, c.Decision, c.Origin, c.Count)
		}
		return out.String()
	}
	t.Fatalf("unknown command %q", command)
	return ""
}

func (s *script) check(t *testing.T, line string) string {
	a := &Attributes{Method: "GET", Path: "/"}
	headers := map[string]string{}
	a.Header = func(name string) string { return headers[name] }
	side := Inbound
	s.draw = 0
	for _, f := range strings.Fields(line) {
		name, value, _ := strings.Cut(f, "=")
		header, isHeader := strings.CutPrefix(name, "header.")
		switch {
		case isHeader:
			headers[header] = value
		case name == "method":
			a.Method = value
		case name == "path":
			a.Path = value
		case name == "workload":
			a.Source.Workload = value
		case name == "principal":
			a.Source.Principal = value
		case name == "draw":
			if _, err := fmt.Sscan(value, &s.draw); err != nil {
				t.Fatal(err)
			}
		case name == "side" && value == "outbound":
			side = Outbound
		default:
			t.Fatalf("unknown field %q", f)
		}
	}
	d := s.checker.Check(t.Context(), side, a)
	out := d.Verdict
	if d.Policy != "" {
		out += " " + d.Policy + "/" + d.Rule
	}
	if d.Refused() {
		out += fmt.Sprintf(" %d %s %q (%s)", d.Status, d.Detail, d.Body, d.ContentType)
	}
	for _, h := range d.Headers {
		out += fmt.Sprintf(" {%s: %s}", h.Name, h.Value)
	}
	return out + "\n"
}
