package expr

import (
	"fmt"
	"strings"
	"testing"
)

// request is a Source for tests: attributes by name, headers apart.
type request struct {
	attributes map[string]string
	headers    map[string]string
}

func (r request) Attribute(a Attribute) string { return r.attributes[a.String()] }
func (r request) Header(name string) string    { return r.headers[name] }

func sample() request {
	return request{
		attributes: map[string]string{
			"request.method": "GET", "request.path": "/api/items?id=7", "request.url_path": "/api/items",
			"request.query": "id=7", "request.host": "items.shop", "source.namespace": "shop",
			"source.principal": "spiffe://mesh/ns/shop/sa/web", "destination.service": "items",
		},
		headers: map[string]string{"x-user": "ann", "x-tier": "gold"},
	}
}

func compiler(t testing.TB) *Compiler {
	t.Helper()
	c, err := NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConditions runs every condition as it is compiled and again through
// cel-go: the closures must agree with it, errors included.
func TestConditions(t *testing.T) {
	c := compiler(t)
	check := func(text, want string) {
		t.Helper()
		p, problems := c.Bool(text)
		if problems != nil {
			t.Errorf("%s: %v", text, problems)
			return
		}
		ast, _ := c.env.Compile(text)
		slow, problems := c.interpret(ast)
		if problems != nil {
			t.Errorf("%s: interpret: %v", text, problems)
			return
		}
		for name, p := range map[string]*BoolProgram{"compiled": p, "cel-go": {slow: slow}} {
			got, err := p.Eval(sample())
			answer := fmt.Sprint(got)
			if err != nil {
				answer = "error"
				if got {
					t.Errorf("%s, %s: true with an error", text, name)
				}
			}
			if answer != want {
				t.Errorf("%s, %s: got %s (%v), want %s", text, name, answer, err, want)
			}
		}
	}
	check(`true`, "true")
	check(`request.method == "GET"`, "true")
	check(`request.method != "GET"`, "false")
	check(`request.method in ["GET", "HEAD"]`, "true")
	check(`request.path.startsWith("/api/") && source.namespace == "shop"`, "true")
	check(`request.url_path.endsWith("items") || request.headers["nope"] == "x"`, "true")
	check(`request.headers["nope"] == "x" || request.url_path.endsWith("items")`, "true")
	check(`request.headers["nope"] == "x" && request.method == "PUT"`, "false")
	check(`request.headers["nope"] == "x" && request.method == "GET"`, "error")
	check(`!(request.headers["nope"] == "x")`, "error")
	check(`request.headers["nope"] != "x"`, "error")
	check(`request.headers["x-user"] == "ann"`, "true")
	check(`"x-user" in request.headers`, "true")
	check(`"nope" in request.headers`, "false")
	check(`has(request.headers.nope)`, "false")
	check(`request.path.matches("^/api/[a-z]+\\?id=[0-9]+$")`, "true")
	check(`source.principal.contains("/ns/shop/")`, "true")
	check(`(request.method == "GET") == (request.query == "id=7")`, "true")
	check(`size(request.path) > 5`, "true")
	check(`["GET", "HEAD"].exists(m, m == request.method)`, "true")
}

func TestKeys(t *testing.T) {
	c := compiler(t)
	for text, want := range map[string]string{
		`request.headers["x-user"]`:                         "ann",
		`source.namespace + "/" + destination.service`:      "shop/items",
		`has(request.headers.nope) ? "some" : "none"`:       "none",
		`string(size(request.method))`:                      "3",
		`"x-user" in request.headers ? request.host : "no"`: "items.shop",
	} {
		p, problems := c.String(text)
		if problems != nil {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		if got, err := p.Eval(sample()); err != nil || got != want {
			t.Errorf("%s: got %q (%v), want %q", text, got, err, want)
		}
	}
	p, problems := c.String(`request.headers["nope"]`)
	if problems != nil {
		t.Fatal(problems)
	}
	if got, err := p.Eval(sample()); err == nil || got != "" {
		t.Errorf("missing header: got %q (%v), want an error", got, err)
	}
}

func TestRefusedExpressionsSayWhereAndWhy(t *testing.T) {
	c := compiler(t)
	for _, tt := range []struct{ text, want string }{
		{``, `1:1 empty expression`},
		{`request.method`, `1:1 expression is of type string, must be bool`},
		{`request.mehtod == "GET"`, `1:1 unknown name request.mehtod; did you mean request.method?`},
		{`request.method == "GET" && source.pod == "x"`, `1:28 unknown name source.pod; known are source.cluster`},
		{`auth.claims["tier"] == "gold"`, `1:1 unknown name auth.claims; attributes begin with`},
		{`request.method == 3`, `1:16 found no matching overload for '_==_'`},
		{`request.method = "GET"`, `1:16 Syntax error: token recognition error at: '= '`},
		{"request.method == \"GET\" &&\n  request.path.startswith(\"/\")", `2:16 unknown function startswith; did you mean startsWith?`},
		{`request.headers["X-User"] == "a"`, `1:17 header names are lower case here: write "x-user"`},
		{`request.headers.exists(k, k == "a")`, `request.headers can only be looked up by name`},
		{`size(request.headers) > 1`, `request.headers can only be looked up by name`},
		{`request.path.matches("(")`, `1:22 invalid matches argument`},
		{`request.path.matches(request.host)`, `1:22 the pattern of matches must be a literal`},
		{strings.Repeat("(", 60) + "true" + strings.Repeat(")", 60), `expression recursion limit exceeded`},
		{`"` + strings.Repeat("x", maxLength) + `" == request.path`, `is longer than 4096`},
	} {
		_, problems := c.Bool(tt.text)
		if len(problems) == 0 {
			t.Errorf("%s: accepted", tt.text)
			continue
		}
		got := fmt.Sprintf("%d:%d %s", problems[0].Line, problems[0].Column, problems[0].Reason)
		if !strings.Contains(got, tt.want) {
			t.Errorf("%.60s: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestConditionsDoNotAllocate(t *testing.T) {
	c := compiler(t)
	p, problems := c.Bool(`request.method == "GET" && request.path.startsWith("/api/") && source.namespace in ["a", "shop"]`)
	if problems != nil {
		t.Fatal(problems)
	}
	var s Source = fixed{}
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Eval(s) }); n != 0 {
		t.Errorf("Eval: %v allocs, want 0", n)
	}
}

// fixed is a Source without maps, so that a benchmark measures the expression.
type fixed struct{}

func (fixed) Attribute(a Attribute) string {
	switch a {
	case RequestMethod:
		return "GET"
	case RequestPath:
		return "/api/items"
	}
	return "shop"
}
func (fixed) Header(string) string { return "ann" }

func BenchmarkCondition(b *testing.B) {
	c := compiler(b)
	const text = `request.method == "GET" && request.path.startsWith("/api/") && source.namespace in ["a", "shop"]`
	p, _ := c.Bool(text)
	ast, _ := c.env.Compile(text)
	slow, _ := c.interpret(ast)
	var s Source = fixed{}
	for name, p := range map[string]*BoolProgram{"closures": p, "cel-go": {slow: slow}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.Eval(s)
			}
		})
	}
}

func TestReadsNamesWhatAnExpressionAsksFor(t *testing.T) {
	c, err := NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`true`: ``,
		`request.method == "GET" && source.principal.endsWith("/sa/web")`:              `request.method source.principal`,
		`request.headers["x-user"] == "a" || "x-key" in request.headers`:               `request.headers["x-key"] request.headers["x-user"]`,
		`has(request.headers.cookie)`:                                                  `request.headers["cookie"]`,
		`request.headers[request.id] == ""`:                                            `request.headers request.id`,
		`["a", "b"].exists(x, request.path.contains(x) && source.workload == x)`:       `request.path source.workload`,
		`request.method in ["GET"] ? source.address != "" : destination.version == ""`: `destination.version request.method source.address`,
	} {
		p, problems := c.Bool(text)
		if len(problems) > 0 {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		if got := strings.Join(p.Reads(), " "); got != want {
			t.Errorf("%s reads %s, want %s", text, got, want)
		}
	}
}
