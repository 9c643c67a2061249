package convert

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	policy "github.com/telemesh/telemesh/policy-check"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// TestConversions compares what becomes of each file of testdata with the file
// beside it: policies that the language takes, what is left out, what differs.
func TestConversions(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal(err, inputs)
	}
	options := map[string]Options{
		"descriptors": {Service: "edge", Namespace: "shop", Descriptors: map[string]string{"to_number": `request.headers["x-to"]`}},
	}
	for _, in := range inputs {
		name := strings.TrimSuffix(filepath.Base(in), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			got := said(t, Convert([]File{{filepath.Base(in), data}}, options[name]))
			file := filepath.Join("testdata", name+".want")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// said is a result as text; its policies must be good.
func said(t *testing.T, r Result) string {
	t.Helper()
	policies, problems := policy.Parse("out", r.Policies)
	if len(problems) > 0 || len(policies) != r.Count {
		t.Errorf("%d policies, want %d; %v", len(policies), r.Count, problems)
	}
	var b strings.Builder
	b.Write(r.Policies)
	for _, l := range r.Left {
		fmt.Fprintln(&b, "left:", l)
	}
	for _, d := range r.Differs {
		fmt.Fprintln(&b, "differs:", d)
	}
	return b.String()
}

func TestAWholeGatewayNeedsAService(t *testing.T) {
	data, err := os.ReadFile("testdata/kuadrant.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with := Convert([]File{{"k.yaml", data}}, Options{Service: "front"})
	if !strings.Contains(string(with.Policies), "name: whole-gateway") || !strings.Contains(string(with.Policies), "name: front") {
		t.Errorf("with a service:\n%s\n%v", with.Policies, with.Left)
	}
}

func TestAListIsWhatItHolds(t *testing.T) {
	r := Convert([]File{{"l.yaml", []byte(`{kind: List, apiVersion: v1, items: [
  {kind: HTTPRoute, metadata: {name: r}, spec: {rules: [{backendRefs: [{name: a}]}]}},
  {kind: RateLimitPolicy, metadata: {name: p}, spec: {targetRef: {kind: HTTPRoute, name: r}, limits: {all: {rates: [{limit: 1, window: 1s}]}}}}]}`)}}, Options{})
	if r.Count != 1 || len(r.Left) > 0 {
		t.Errorf("%s%v", r.Policies, r.Left)
	}
}

func TestAnAliasIsNamed(t *testing.T) {
	r := Convert([]File{{"a.yaml", []byte("domain: a\ndescriptors: &d\n- {key: user, descriptors: *d, rate_limit: {unit: second, requests_per_unit: 1}}\n")}}, Options{Service: "s"})
	if len(r.Left) != 1 || !strings.Contains(r.Left[0].String(), "a.yaml:3: rate limit domain a, descriptors[0].descriptors: aliases are not supported") {
		t.Errorf("left %v", r.Left)
	}
}

func TestMixersExpressions(t *testing.T) {
	for in, want := range map[string]string{
		`source.labels["app"] == "a" || !(request.method != "GET")`: `source.service == "a" || !(request.method != "GET")`,
		`request.headers["X-A"] == "1"`:                             `"x-a" in request.headers && request.headers["x-a"] == "1"`,
		`(request.headers["a"] | source.namespace | "none") == "x"`: `(("a" in request.headers ? request.headers["a"] : (source.namespace != "" ? source.namespace : "none"))) == "x"`,
		`conditional(source.principal == "", true, false)`:          `(source.principal == "" ? true : false)`,
		`"^/v[0-9]+".matches(request.path)`:                         `request.path.matches("^/v[0-9]+")`,
		`match(request.host, "*.example.com")`:                      `request.host.endsWith(".example.com")`,
		`request.path.startsWith("/a")`:                             `request.path.startsWith("/a")`,
	} {
		got, err := mixerCondition(in)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{`source.uid == "x"`, `dnsName("a") == source.ip`, `request.size > 5`, `a b`, `request.headers[source.ip] == ""`, `source.labels["tier"] == "x"`} {
		if got, err := mixerCondition(in); err == nil {
			t.Errorf("%s became %s, want an error", in, got)
		}
	}
}

// FuzzConvert reads anything: what comes out is always good.
func FuzzConvert(f *testing.F) {
	inputs, _ := filepath.Glob("testdata/*.yaml") // a pattern that is right
	for _, in := range inputs {
		data, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, data string) {
		r := Convert([]File{{"in", []byte(data)}}, Options{Service: "s"})
		policies, problems := policy.Parse("out", r.Policies)
		if len(policies) != r.Count || len(problems) > 0 {
			t.Errorf("%d policies, want %d: %v\n%s", len(policies), r.Count, problems, r.Policies)
		}
	})
}
