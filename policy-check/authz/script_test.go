package authz

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestScripts runs testdata/script. A script has blocks:
//
//	policies [sidecar=KEY=VALUE,...]
//	(YAML; $JWKS is the key set of the test's tokens)
//	cases
//	METHOD URL [KEY=VALUE]... -> WANT
//
// METHOD TCP is an opaque connection. Keys are principal (without spiffe://), from
// (an address), to (address:port), sni, and any other is a header; $NAME is a
// token. WANT is ok, or the verdict and POLICY/RULE, or for an invalid token the
// status and Envoy's text.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	cases := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := script{t: t, file: file, tokens: testTokens(t)}
			for i, line := range strings.Split(string(b), "\n") {
				s.line(i+1, line)
			}
			cases += s.cases
		})
	}
	if cases < 120 {
		t.Errorf("%d cases, want 120 at least", cases)
	}
}

type script struct {
	t        *testing.T
	file     string
	tokens   map[string]string
	enforcer *Enforcer
	yaml     strings.Builder
	workload Workload
	inYAML   bool
	cases    int
}

func (s *script) line(number int, line string) {
	s.t.Helper()
	switch {
	case strings.HasPrefix(line, "policies"):
		s.yaml.Reset()
		s.workload = Workload{Namespace: "shop", Service: "api", Labels: map[string]string{"app": "api", "version": "v1"}}
		for pair := range strings.FieldsSeq(strings.TrimPrefix(line, "policies")) {
			key, value, _ := strings.Cut(pair, "=")
			switch key {
			case "namespace":
				s.workload.Namespace = value
			case "service":
				s.workload.Service = value
			default:
				s.workload.Labels[key] = value
			}
		}
		s.inYAML = true
	case line == "cases":
		s.inYAML = false
		s.load(number)
	case s.inYAML:
		s.yaml.WriteString(strings.ReplaceAll(line, "$JWKS", s.tokens["JWKS"]) + "\n")
	case line == "" || strings.HasPrefix(line, "#"):
	default:
		s.ask(number, line)
	}
}

func (s *script) load(number int) {
	rs, problems := Parse(s.file, []byte(s.yaml.String()))
	for _, p := range problems {
		s.t.Fatalf("policies before line %d: %v\n%s", number, p, &s.yaml)
	}
	if len(rs) == 0 && strings.Contains(s.yaml.String(), "kind") {
		s.t.Fatalf("policies before line %d: none", number)
	}
	e := New(Options{Workload: s.workload, Clock: func() time.Time { return testTime }})
	s.t.Cleanup(e.Close)
	for i, r := range rs { // as the hub sends them
		var err error
		if rs[i], err = Decode(r.Canonical()); err != nil {
			s.t.Fatalf("%s does not survive its own form: %v", r.ID(), err)
		}
	}
	rules, err := e.Compile(rs)
	if err != nil {
		s.t.Fatal(err)
	}
	e.Use(rules)
	s.enforcer = e
}

func (s *script) ask(number int, line string) {
	s.t.Helper()
	question, want, ok := strings.Cut(line, " -> ")
	if !ok {
		s.t.Fatalf("%s:%d: no ->", s.file, number)
	}
	s.cases++
	r, _ := s.request(question)
	d := s.enforcer.Check(s.t.Context(), r)
	if got := words(d); got != strings.TrimSpace(want) {
		s.t.Errorf("%s:%d: %s\n got %s\nwant %s", s.file, number, question, got, want)
	}
}

func words(d Decision) string {
	switch {
	case d.Challenge != "":
		return fmt.Sprintf("%d %s", d.Status, d.Body)
	case d.Policy == "":
		return d.Verdict
	}
	return d.Verdict + " " + d.Policy[strings.LastIndexByte(d.Policy, '/')+1:] + "/" + d.Rule
}

func (s *script) request(question string) (*Request, *fakeHeaders) {
	fields := strings.Fields(question)
	h := &fakeHeaders{}
	r := &Request{Method: fields[0], Headers: h, Source: "192.0.2.1:4000", Destination: netip.MustParseAddrPort("10.1.1.1:8080")}
	if r.TCP = fields[0] == "TCP"; r.TCP {
		r.Method, r.Headers = "", new(fakeHeaders)
	} else {
		text := s.expand(fields[1])
		u, err := url.Parse(text)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Scheme, r.Host = u.Scheme, u.Host
		r.Path = text[strings.Index(text, u.Host)+len(u.Host):] // as written
		fields = fields[1:]
	}
	for _, pair := range fields[1:] {
		key, value, _ := strings.Cut(pair, "=")
		value = s.expand(strings.ReplaceAll(value, "_", " "))
		switch key {
		case "principal":
			r.Principal = "spiffe://" + value
		case "from":
			r.Source = net(value)
		case "to":
			r.Destination = netip.MustParseAddrPort(value)
		case "sni":
			r.ServerName = value
		default:
			h.add(key, value)
		}
	}
	return r, h
}

func net(address string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(address), 4000).String()
}

func (s *script) expand(text string) string {
	for name, token := range s.tokens {
		text = strings.ReplaceAll(text, "$"+strings.ReplaceAll(name, "_", " ")+"$", token)
	}
	return text
}

// fakeHeaders is a request's head.
type fakeHeaders struct{ fields [][2]string }

func (f *fakeHeaders) add(name, value string) { f.fields = append(f.fields, [2]string{name, value}) }

func (f *fakeHeaders) At(name string, i int) (string, bool) {
	for _, one := range f.fields {
		if one[0] == name {
			if i == 0 {
				return one[1], true
			}
			i--
		}
	}
	return "", false
}

func (f *fakeHeaders) Set(name, value string) { f.Del(name); f.add(name, value) }

func (f *fakeHeaders) Del(name string) {
	kept := f.fields[:0:0]
	for _, one := range f.fields {
		if one[0] != name {
			kept = append(kept, one)
		}
	}
	f.fields = kept
}

func (f *fakeHeaders) get(name string) string {
	v, _ := f.At(name, 0)
	return v
}
