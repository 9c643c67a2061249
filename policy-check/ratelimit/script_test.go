package ratelimit

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts runs testdata/*.txt: commands that begin with >, their input, a
// line of dashes and the answer.
//
//	> config [FILE]                             YAML; the file it is read from
//	> request DOMAIN [hits=N] [at=S] [times=N]  a descriptor a line:
//	  (key=value)(key=value) [limit=N/UNIT] [hits=N] [refill]
//	> stats
//
// Only the last of several times is shown. at is the clock, which begins at a
// day's start.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript().run(t, string(b))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(b), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("answers differ (-script +now); -update takes them over:\n%s", diff)
			}
		})
	}
}

type script struct {
	start, now time.Time
	server     *Server
	domains    map[string][]*Domain // by file
}

func newScript() *script {
	s := &script{start: time.Unix(20_000*24*60*60, 0), domains: make(map[string][]*Domain)}
	s.now = s.start
	s.server = NewServer(Options{Headers: true, Clock: func() time.Time { return s.now }})
	return s
}

func (s *script) run(t *testing.T, text string) string {
	var out strings.Builder
	for i, block := range strings.Split(text, "\n> ") {
		if i == 0 {
			out.WriteString(block)
			continue
		}
		command, rest, ok := strings.Cut(block, "\n----\n")
		if !ok {
			t.Fatalf("no ---- after > %s", block)
		}
		// An answer has no empty line; what follows one is for people.
		_, remark, ok := strings.Cut("\n"+rest, "\n\n")
		if ok && remark != "" {
			remark = "\n" + remark
		}
		head, input, _ := strings.Cut(command, "\n")
		fmt.Fprintf(&out, "\n> %s\n----\n%s%s", command, s.command(t, strings.Fields(head), input), remark)
	}
	return out.String()
}

func (s *script) command(t *testing.T, words []string, input string) string {
	switch words[0] {
	case "config":
		return s.config(append(words, "limits.yaml")[1], input)
	case "request":
		return s.request(t, words[1:], input)
	case "stats":
		return s.stats()
	}
	t.Fatalf("unknown command %s", words[0])
	return ""
}

func (s *script) config(file, input string) string {
	domains, problems := Parse(file, []byte(input))
	var out strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&out, p)
	}
	if len(problems) > 0 {
		return out.String()
	}
	s.domains[file] = domains
	var all []*Domain
	for _, ds := range s.domains {
		all = append(all, ds...)
	}
	s.server.SetDomains(all)
	for _, d := range domains {
		fmt.Fprintf(&out, "%s: %d limits\n", d.Name, d.Limits())
	}
	return out.String()
}

func (s *script) request(t *testing.T, words []string, input string) string {
	req, times := &rlsv3.RateLimitRequest{Domain: strings.Trim(words[0], `"`)}, 1
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		switch name {
		case "hits":
			req.HitsAddend = uint32(n)
		case "at":
			s.now = s.start.Add(time.Duration(n) * time.Second)
		case "times":
			times = n
		default:
			t.Fatalf("unknown option %s", w)
		}
	}
	for line := range strings.Lines(input) {
		req.Descriptors = append(req.Descriptors, parseDescriptor(t, strings.TrimSpace(line)))
	}
	var resp *rlsv3.RateLimitResponse
	var err error
	for range times {
		if resp, err = s.server.ShouldRateLimit(t.Context(), req); err != nil {
			return fmt.Sprintf("%s: %s\n", status.Code(err), status.Convert(err).Message())
		}
	}
	return spell(resp)
}

var entryForm = regexp.MustCompile(`\(([^=)]*)=([^)]*)\)`)

func parseDescriptor(t *testing.T, line string) *commonv3.RateLimitDescriptor {
	d := &commonv3.RateLimitDescriptor{}
	for _, m := range entryForm.FindAllStringSubmatch(line, -1) {
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: m[1], Value: m[2]})
	}
	for _, w := range strings.Fields(entryForm.ReplaceAllString(line, "")) {
		name, value, _ := strings.Cut(w, "=")
		amount, unit, _ := strings.Cut(value, "/")
		n, err := strconv.ParseUint(amount, 10, 64)
		switch {
		case name == "refill":
			d.IsNegativeHits = true
		case err != nil:
			t.Fatalf("%s: %v", w, err)
		case name == "hits":
			d.HitsAddend = wrapperspb.UInt64(n)
		case name == "limit":
			d.Limit = &commonv3.RateLimitDescriptor_RateLimitOverride{
				RequestsPerUnit: uint32(n), Unit: typev3.RateLimitUnit(typev3.RateLimitUnit_value[strings.ToUpper(unit)]),
			}
		default:
			t.Fatalf("unknown option %s", w)
		}
	}
	return d
}

// spell is a response in words.
func spell(resp *rlsv3.RateLimitResponse) string {
	var out strings.Builder
	fmt.Fprintln(&out, resp.GetOverallCode())
	for _, st := range resp.GetStatuses() {
		fmt.Fprintf(&out, "  %s", st.GetCode())
		if l := st.GetCurrentLimit(); l != nil {
			fmt.Fprintf(&out, " of %d/%s", l.GetRequestsPerUnit(), strings.ToLower(l.GetUnit().String()))
			if l.GetName() != "" {
				fmt.Fprintf(&out, " %s", l.GetName())
			}
		}
		fmt.Fprintf(&out, " remaining %d", st.GetLimitRemaining())
		if st.GetDurationUntilReset() != nil {
			fmt.Fprintf(&out, " reset %v", st.GetDurationUntilReset().AsDuration())
		}
		fmt.Fprintln(&out)
	}
	if len(resp.GetResponseHeadersToAdd()) > 0 {
		out.WriteString(" ")
		for _, h := range resp.GetResponseHeadersToAdd() {
			fmt.Fprintf(&out, " %s: %s;", h.GetKey(), h.GetValue())
		}
		fmt.Fprintln(&out)
	}
	if m := resp.GetDynamicMetadata(); m != nil {
		fmt.Fprintf(&out, "  metadata %v\n", m.AsMap())
	}
	return out.String()
}

func (s *script) stats() string {
	st := s.server.Stats()
	lines := []string{}
	for _, r := range st.Requests {
		lines = append(lines, fmt.Sprintf("requests %s %s %d", r.Domain, r.Code, r.Count))
	}
	for _, h := range st.Hits {
		if h.Within+h.Over+h.Shadow > 0 {
			lines = append(lines, fmt.Sprintf("hits %s %s within %d (near %d) over %d shadow %d", h.Domain, h.Rule, h.Within, h.Near, h.Over, h.Shadow))
		}
	}
	return strings.Join(slices.Concat(lines, []string{fmt.Sprintf("keys %d", st.Keys), ""}), "\n")
}
