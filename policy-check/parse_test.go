package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const valid = `# Ratings is the slow one.
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ratings, namespace: shop}
spec:
  targetRefs:
  - {kind: Service, name: ratings}
  failurePolicy: {onHubDown: Deny, holdTimeout: 50ms}
  rules:
  - name: no-plaintext
    match: source.principal == ""
    access: {action: Deny}
  - name: web
    match: source.workload == "web"
    access: {action: Allow}
  - name: per-user
    limit:
      key: ['request.headers["x-user"]']
      rates: [{limit: 50, window: 1s}, {limit: 1000, window: 1m, burst: 10}]
      overrides:
      - {match: 'source.version == "v2"', rates: [{limit: 1, window: 1s}]}
    response: {headers: Both, body: slow down}
`

func parseOne(t testing.TB, text string) *TrafficPolicy {
	t.Helper()
	ps, problems := Parse("p.yaml", []byte(text))
	if len(problems) > 0 || len(ps) != 1 {
		t.Fatalf("Parse: %d policies, problems %v", len(ps), problems)
	}
	return ps[0]
}

func TestParseFillsDefaults(t *testing.T) {
	p := parseOne(t, valid)
	if p.Spec.Side != SideInbound || p.Spec.Mode != ModeEnforce || p.Spec.EnforcePercent != 100 {
		t.Errorf("spec: %+v", p.Spec)
	}
	l := p.Spec.Rules[2].Limit
	if l.Rates[0].Burst != 2 || l.Algorithm != AlgorithmGCRA || l.Scope != ScopeMesh || l.Overflow != OverflowSharedBucket {
		t.Errorf("limit: %+v", l)
	}
	if got := []int{p.Spec.Rules[0].Response.Status, p.Spec.Rules[2].Response.Status}; got[0] != 403 || got[1] != 429 {
		t.Errorf("statuses: %v", got)
	}
	want := []string{
		`deny if source.principal == ""`,
		`allow if source.workload == "web"`,
		`50 requests per 1s per request.headers["x-user"], burst 2 and 1000 requests per 1m per request.headers["x-user"], burst 10; ` +
			`1 request per 1s per request.headers["x-user"], burst 1 if source.version == "v2"`,
	}
	if diff := cmp.Diff(want, p.Summaries()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Service shop/ratings"}, p.Targets()); diff != "" {
		t.Error(diff)
	}
	if !p.Applies("shop", "ratings") || p.Applies("shop", "reviews") || p.Applies("other", "ratings") {
		t.Error("Applies: wrong services")
	}
}

func TestCanonicalSurvivesDecodeAndLayout(t *testing.T) {
	p := parseOne(t, valid)
	q, err := Decode(p.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	q.Line = p.Line // the layout's, not the policy's
	if diff := cmp.Diff(p, q); diff != "" {
		t.Error(diff)
	}
	relaid := parseOne(t, strings.Replace(valid, "metadata: {name: ratings, namespace: shop}", "metadata:\n  namespace: 'shop'\n  name: \"ratings\"", 1))
	if relaid.Version() != p.Version() || len(p.Version()) != 12 {
		t.Errorf("versions %q and %q", relaid.Version(), p.Version())
	}
	odd := parseOne(t, strings.Replace(valid, "slow down", `"a\x7f\u0085\uFFFE<ü😀\n\0"`, 1))
	if q, err = Decode(odd.Canonical()); err != nil || q.Spec.Rules[2].Response.Body != odd.Spec.Rules[2].Response.Body {
		t.Errorf("odd characters: %v", err)
	}
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	data := strings.Replace(string(parseOne(t, valid).Canonical()), `"side"`, `"sides"`, 1)
	if _, err := Decode([]byte(data)); err == nil || !strings.Contains(err.Error(), "did you mean side?") {
		t.Errorf("got %v", err)
	}
	if _, err := Decode(nil); err == nil {
		t.Error("empty input: no error")
	}
}

func TestBuckets(t *testing.T) {
	p := parseOne(t, valid)
	var names []string
	for _, b := range p.AllBuckets() {
		names = append(names, b.Name)
	}
	want := []string{"shop/ratings/per-user", "shop/ratings/per-user/rate-2", "shop/ratings/per-user/override-1"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// TestRefusals edits the valid policy and compares every problem with its place.
func TestRefusals(t *testing.T) {
	refuse := func(old, replacement string, want ...string) {
		t.Helper()
		if !strings.Contains(valid, old) {
			t.Fatalf("%q is not in the policy", old)
		}
		ps, problems := Parse("p.yaml", []byte(strings.Replace(valid, old, replacement, 1)))
		if len(ps) != 0 {
			t.Errorf("%s: accepted", replacement)
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.Error())
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %q, want %q", replacement, got, want)
			return
		}
		for i := range got {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: got %q, want %q", replacement, got[i], want[i])
			}
		}
	}
	refuse("kind: TrafficPolicy", "kind: Trafficpolicy", `p.yaml:3:7: kind must be TrafficPolicy, is "Trafficpolicy"`)
	refuse("policy.mesh.dev/v1alpha1", "policy.mesh.dev/v1", `p.yaml:2:13: apiVersion must be policy.mesh.dev/v1alpha1`)
	refuse("  targetRefs:", "  targetRef:", `p.yaml:6:3: spec has no field "targetRef"; did you mean targetRefs? (allowed: targetRefs, side, mode`,
		`p.yaml:6:3: spec: field targetRefs is required`)
	refuse("name: ratings, namespace", "name: Ratings, namespace", `p.yaml:4:18: metadata.name must be at most 63 lower-case letters`)
	refuse("kind: Service", "kind: Gateway", `p.yaml:7:12: targetRef.kind Gateway is not available in this version; use Service or Namespace`)
	refuse("{kind: Service, name: ratings}", "{kind: Namespace, name: other}", `p.yaml:7:5: a policy can target its own namespace only: name must be shop, is other`)
	refuse("onHubDown: Deny", "onHubDown: deny", `p.yaml:8:30: failurePolicy.onHubDown must be LocalShare or Allow or Deny, is "deny"; did you mean Deny?`)
	refuse("holdTimeout: 50ms", "holdTimeout: 50", `p.yaml:8:49: failurePolicy.holdTimeout needs a unit: write 50s or 50ms`)
	refuse("holdTimeout: 50ms", "holdTimeout: 5m", `p.yaml:8:49: failurePolicy.holdTimeout must be between 1ms and 1s, is 5m`)
	refuse(`source.principal == ""`, `source.principle == ""`, `p.yaml:11:12: match: unknown name source.principle; did you mean source.principal?`)
	refuse(`source.principal == ""`, `source.principal`, `p.yaml:11:12: match: expression is of type string, must be bool`)
	refuse("action: Allow", "action: Ask", `p.yaml:15:22: access.action Ask is not available in this version; use Allow or Deny`)
	refuse("access: {action: Deny}", "access: {action: Deny, cache: {ttl: 5s}}", `p.yaml:12:28: access: field cache is not available in this version`)
	refuse("- name: web", "- name: no-plaintext", `p.yaml:13:11: rule no-plaintext is already defined`)
	refuse("- name: web", "- name: implicit-deny", `p.yaml:13:11: rule name implicit-deny is reserved`)
	refuse("    access: {action: Allow}", "", `p.yaml:13:5: rule web must have either access or limit`)
	refuse("access: {action: Allow}", "access: {action: Allow}\n    response: {status: 404}", `p.yaml:16:15: an Allow rule has no response`)
	refuse("limit: 50, window: 1s", "limit: many, window: 1s", `p.yaml:19:23: rate.limit must be a whole number, is "many"`)
	refuse("limit: 50, window: 1s", "limit: 0, window: 1s", `p.yaml:19:23: rate.limit must be at least 1, is 0`)
	refuse("limit: 50, window: 1s", "limit: 50", `p.yaml:19:15: rate: field window is required`)
	refuse("limit: 50, window: 1s", "limit: 50, window: 1 second", `p.yaml:19:35: rate.window must be a duration such as 1s, 500ms or 1m, is "1 second"`)
	refuse("      rates: [{limit: 50", "      algorithm: SlidingWindow\n      rates: [{limit: 50", `p.yaml:19:18: algorithm SlidingWindow is not available in this version; use GCRA`)
	refuse("      rates: [{limit: 50", "      cost: {request: '2'}\n      rates: [{limit: 50", `p.yaml:19:7: limit: field cost is not available in this version`)
	refuse("headers: Both", "headers: Bothe", `p.yaml:22:25: response.headers must be IETF or Legacy or Both or None, is "Bothe"; did you mean Both?`)
	refuse("body: slow down", "status: 200", `p.yaml:22:39: response.status must be between 400 and 599, is 200`)
	refuse("body: slow down", "body: 7", `p.yaml:22:37: response.body must be a string, is the number 7`)
	refuse("body: slow down", "body: ", `p.yaml:22:37: response: field body has no value`)
	refuse("body: slow down", "headers: None", `p.yaml:22:31: response: field headers is given twice`)
	refuse("  rules:", "  rules: []\n  mode: Enforced\n  unknown:", `p.yaml:9:10: spec.rules is empty`,
		`p.yaml:10:9: mode must be Enforce or Shadow or Disabled, is "Enforced"; did you mean Enforce?`, `p.yaml:11:3: spec has no field "unknown"`)
	refuse("spec:", "spec: &x\nstatus: {}\nspec2:", "p.yaml:5:7: document: field spec has no value",
		"p.yaml:6:1: document: field status is not available", `p.yaml:7:1: document has no field "spec2"; did you mean spec?`)
	refuse("spec:", "spec: [1", `not valid YAML: did not find expected ',' or ']'`)
}

// TestExpressionPositions puts one wrong expression into every YAML style.
func TestExpressionPositions(t *testing.T) {
	for name, tt := range map[string]struct{ yaml, want string }{
		"plain":              {`source.principal == "" && source.pod == "x"`, "11:38"},
		"single quoted":      {`'source.principal == "it''s" && source.pod == "x"'`, "11:44"},
		"double quoted":      {`"source.principal == \"a\" && source.pod == \"x\""`, "11:42"},
		"unicode":            {`'source.principal == "äöü😀" && source.pod == "x"'`, "11:43"},
		"literal":            {"|\n      source.principal == \"\" &&\n        source.pod == \"x\"", "13:9"},
		"folded":             {">-\n      source.principal == \"\" &&\n      source.pod == \"x\"", "13:7"},
		"plain, many lines":  {"source.principal == \"\" &&\n      source.pod == \"x\"", "12:7"},
		"quoted, many lines": {"'source.principal == \"\" &&\n\n      source.pod == \"x\"'", "13:7"},
	} {
		_, problems := Parse("p.yaml", []byte(strings.Replace(valid, `source.principal == ""`, tt.yaml, 1)))
		if len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
			continue
		}
		if got := fmt.Sprintf("%d:%d", problems[0].Line, problems[0].Column); got != tt.want {
			t.Errorf("%s: got %s, want %s (%v)", name, got, tt.want, problems[0])
		}
	}
}

func TestDocumentsOfOneFile(t *testing.T) {
	other := strings.Replace(valid, "{name: ratings, n", "{name: other, n", 1)
	bad := strings.Replace(valid, "Deny}", "Denied}", 1)
	ps, problems := Parse("p.yaml", []byte("---\n# nothing\n---\n"+valid+"---\n"+bad+"---\n"+other+"---\n"+valid))
	var ids []string
	for _, p := range ps {
		ids = append(ids, p.ID())
	}
	if diff := cmp.Diff([]string{"shop/ratings", "shop/other"}, ids); diff != "" {
		t.Error(diff)
	}
	if len(problems) != 2 || problems[0].Line != 38 || problems[1].Reason != "policy shop/ratings is already defined at line 5" {
		t.Errorf("problems: %v", problems)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("---\n- |\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ps, problems := Parse("f.yaml", data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Reason == "" {
				t.Errorf("problem without a place or reason: %+v", p)
			}
		}
		for _, p := range ps {
			q, err := Decode(p.Canonical())
			if err != nil {
				t.Fatalf("decode %s: %v", p.Canonical(), err)
			}
			if q.Version() != p.Version() {
				t.Errorf("version changed: %s, %s", p.Canonical(), q.Canonical())
			}
			_ = p.Summaries()
		}
	})
}
