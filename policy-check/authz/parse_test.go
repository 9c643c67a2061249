package authz

import (
	"strings"
	"testing"
)

// doc is an AuthorizationPolicy with this spec, whose first line is line 5.
func doc(spec string) string {
	return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n" + spec
}

func TestProblemsHaveTheirLineAndTheFieldsName(t *testing.T) {
	jwtDoc := func(spec string) string {
		return "apiVersion: security.istio.io/v1beta1\nkind: RequestAuthentication\nmetadata: {name: p}\nspec:\n  jwtRules:\n" + spec
	}
	for _, tc := range []struct{ name, text, want string }{
		{"unknown field", doc("  rule: []\n"), `f.yaml:5:3: spec has no field "rule"; did you mean rules?`},
		{"unknown nested field", doc("  rules:\n  - from:\n    - source:\n        principal: [a]\n"), `f.yaml:8:9: spec.rules[0].from[0].source has no field "principal"; did you mean principals?`},
		{"a number for a port", doc("  rules:\n  - to:\n    - operation:\n        ports: [80]\n"), `f.yaml:8:17: spec.rules[0].to[0].operation.ports[0] must be a string, is the number 80`},
		{"a port that is none", doc("  rules:\n  - to:\n    - operation:\n        ports: ['70000']\n"), `f.yaml:8:17: ports: "70000" is not a port`},
		{"a broken block", doc("  rules:\n  - from:\n    - source:\n        ipBlocks: [10.0.0.0/8, 10.0.0.256]\n"), `f.yaml:8:32: ipBlocks: "10.0.0.256" is neither`},
		{"deny without rules", doc("  action: DENY\n"), `action DENY without rules never does anything`},
		{"custom", doc("  action: CUSTOM\n  provider: {name: opa}\n  rules: [{}]\n"), `f.yaml:5:11: action CUSTOM: provider "opa" is unknown`},
		{"no such action", doc("  action: allow\n"), `f.yaml:5:11: spec.action must be ALLOW, DENY or AUDIT, is "allow"`},
		{"an empty list", doc("  rules:\n  - from: []\n"), `f.yaml:6:11: spec.rules[0].from is empty`},
		{"an empty source", doc("  rules:\n  - from:\n    - source: {}\n"), `from: source is empty`},
		{"no source", doc("  rules:\n  - from:\n    - {}\n"), `from: source is empty`},
		{"an empty operation", doc("  rules:\n  - to:\n    - operation: {}\n"), `to: operation is empty`},
		{"nothing for a list", doc("  rules:\n  - from:\n"), `f.yaml:6:10: spec.rules[0].from has no value`},
		{"an empty value", doc("  rules:\n  - to:\n    - operation:\n        paths: ['']\n"), `paths[0] is empty`},
		{"accounts beside principals", doc("  rules:\n  - from:\n    - source:\n        serviceAccounts: [a]\n        principals: [b]\n"), `serviceAccounts can't be combined`},
		{"an account with a star", doc("  rules:\n  - from:\n    - source:\n        serviceAccounts: ['a*']\n"), `f.yaml:8:27: serviceAccounts: "a*" must be NAME`},
		{"a misspelt key", doc("  rules:\n  - when:\n    - key: source.nameSpace\n      values: [a]\n"), `f.yaml:7:12: when: key "source.nameSpace" is not supported; did you mean source.namespace?`},
		{"a key of Envoy's", doc("  rules:\n  - when:\n    - key: experimental.envoy.filters.a[b]\n      values: [a]\n"), `is not supported`},
		{"a key without a value", doc("  rules:\n  - when:\n    - key: source.ip\n"), `source.ip has neither values nor notValues`},
		{"a pseudo header", doc("  rules:\n  - when:\n    - key: request.headers[:path]\n      values: [a]\n"), `must be request.headers[NAME]`},
		{"a template with a star", doc("  rules:\n  - to:\n    - operation:\n        paths: ['/a*/{*}']\n"), `f.yaml:8:17: paths: path "/a*/{*}": * can't be combined`},
		{"a template that goes on", doc("  rules:\n  - to:\n    - operation:\n        paths: ['/{**}/{*}']\n"), `{**} must be the last operator`},
		{"a template within a segment", doc("  rules:\n  - to:\n    - operation:\n        paths: ['/a{*}']\n"), `braces are for`},
		{"a gateway", doc("  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]\n"), `kind "Gateway" of group "gateway.networking.k8s.io" is not available`},
		{"both ways to select", doc("  targetRefs: [{kind: Service, name: g}]\n  selector: {matchLabels: {app: a}}\n"), `both a selector and targetRefs`},
		{"an alias", doc("  rules:\n  - &a {}\n  - *a\n"), `aliases are not supported`},
		{"given twice", doc("  action: DENY\n  action: ALLOW\n  rules: [{}]\n"), `f.yaml:6:3: spec: field action is given twice`},
		{"another version", strings.Replace(doc("  {}\n"), "io/v1", "io/v2", 1), `f.yaml:1:13: apiVersion must be`},
		{"another kind", strings.Replace(doc("  {}\n"), "AuthorizationPolicy", "PeerAuthentication", 1), `f.yaml:2:7: kind PeerAuthentication of security.istio.io is not available`},
		{"no spec", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n", `field spec is required`},
		{"a broken dry run", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  annotations: {istio.io/dry-run: maybe}\nspec: {}\n", `annotation istio.io/dry-run must be`},
		{"no issuer", jwtDoc("  - jwksUri: https://a/b\n"), `f.yaml:6:5: jwtRules: field issuer is required`},
		{"no keys", jwtDoc("  - issuer: a\n"), `neither jwks nor jwksUri`},
		{"a file for keys", jwtDoc("  - issuer: a\n    jwksUri: file:///a\n"), `f.yaml:7:14: jwksUri must be http`},
		{"keys that are none", jwtDoc("  - issuer: a\n    jwks: '{}'\n"), `f.yaml:7:11: jwks: key set has no public key`},
		{"a secret as a key", jwtDoc("  - issuer: a\n    jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}'\n"), `not a public key`},
		{"a timeout without a unit", jwtDoc("  - issuer: a\n    jwksUri: https://a/b\n    timeout: '5'\n"), `f.yaml:8:14: timeout must be between`},
		{"a header that is the mesh's", jwtDoc("  - issuer: a\n    jwksUri: https://a/b\n    outputPayloadToHeader: Host\n"), `outputPayloadToHeader must be`},
	} {
		rs, problems := Parse("f.yaml", []byte(tc.text))
		if len(problems) == 0 || !strings.Contains(problems[0].Error(), tc.want) {
			t.Errorf("%s: problems %v, want %q", tc.name, problems, tc.want)
		}
		if len(rs) != 0 {
			t.Errorf("%s: read nevertheless", tc.name)
		}
	}
}

func TestWhatAnAPIServerAddsIsNoProblem(t *testing.T) {
	text := `apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: "{}"
  creationTimestamp: "2026-01-01T00:00:00Z"
  generation: 3
  labels: {a: b}
  managedFields: [{manager: kubectl}]
  name: allow.nothing
  namespace: shop
  resourceVersion: "17"
  uid: 5a
spec: {}
status: {conditions: []}
---
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow.nothing, namespace: shop}
spec: {}
`
	rs, problems := Parse("f.yaml", []byte(text))
	if len(rs) != 1 || rs[0].ID() != "authorizationpolicy/shop/allow.nothing" || rs[0].Authorization.Action != ActionAllow {
		t.Errorf("read %+v", rs)
	}
	if len(problems) != 1 || problems[0].Line != 20 || !strings.Contains(problems[0].Reason, "already defined at line 1") {
		t.Errorf("problems %v, want that of the second one", problems)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(doc("  rules:\n  - from:\n    - source:\n        principals: ['*']\n    to:\n    - operation: {paths: ['/{*}/{**}']}\n    when:\n    - {key: 'request.auth.claims[a][b]', values: [c]}\n"))
	f.Add("apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec: {jwtRules: [{issuer: a, jwksUri: 'https://b/c'}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		rs, problems := Parse("f", []byte(text))
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Reason == "" {
				t.Errorf("problem without a place: %+v", p)
			}
		}
		e := New(Options{Workload: Workload{Namespace: "default"}})
		defer e.Close()
		for _, r := range rs {
			again, err := Decode(r.Canonical())
			if err != nil {
				t.Fatalf("own form is refused: %v\n%s", err, r.Canonical())
			}
			if again.Version() != r.Version() || !IsCanonical(r.Canonical()) {
				t.Errorf("own form changes: %s and %s", r.Canonical(), again.Canonical())
			}
			r.Summaries()
		}
		if _, err := e.Compile(rs); err != nil {
			t.Errorf("what was read does not compile: %v", err)
		}
	})
}
