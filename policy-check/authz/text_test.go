package authz

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// words of few letters meet often.
var (
	someText = rapid.StringMatching(`[ab/*.]{0,6}`)
	somePath = rapid.StringMatching(`(/[ab]{0,2}){0,5}`)
)

// pattern is the oracle of the simple forms, as Istio writes them for Envoy.
func pattern(v string) *regexp.Regexp {
	switch {
	case v == "*":
		return regexp.MustCompile(`^(?s:.+)$`)
	case strings.HasPrefix(v, "*"):
		return regexp.MustCompile(`^(?s:.*)` + regexp.QuoteMeta(v[1:]) + `$`)
	case strings.HasSuffix(v, "*"):
		return regexp.MustCompile(`^` + regexp.QuoteMeta(strings.TrimSuffix(v, "*")) + `(?s:.*)$`)
	}
	return regexp.MustCompile(`^` + regexp.QuoteMeta(v) + `$`)
}

func TestFormsMatchAsTheirPatterns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, s := someText.Draw(t, "value"), someText.Draw(t, "text")
		plain := simpleText(v)
		if got, want := plain.matches(s), pattern(v).MatchString(s); got != want {
			t.Fatalf("%q on %q: %v, want %v", v, s, got, want)
		}
		fold := plain
		fold.fold = true
		if fold.matches(strings.ToUpper(s)) != plain.matches(s) {
			t.Fatalf("%q on %q: letters' case matters", v, s)
		}
	})
}

func TestTemplatesMatchAsTheirPatterns(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "", matchOne})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(segment, 1, 4).Draw(t, "before")
		parts = append(parts, rapid.SampledFrom([]string{matchOne, matchAny}).Draw(t, "last"))
		parts = append(parts, rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", ""}), 0, 2).Draw(t, "after")...)
		v := "/" + strings.Join(parts, "/")
		compiled, err := pathText(v)
		if err != nil {
			t.Fatal(err)
		}
		expr := strings.NewReplacer(`\{\*\*\}`, `.*`, `\{\*\}`, `[^/]+`).Replace(regexp.QuoteMeta(v))
		s := somePath.Draw(t, "path")
		if got, want := compiled.matches(s), regexp.MustCompile("^"+expr+"$").MatchString(s); got != want {
			t.Fatalf("%q on %q: %v, want %v", v, s, got, want)
		}
	})
}

func TestNormaliseIsIdempotentAndLeavesNoDots(t *testing.T) {
	raw := rapid.StringMatching(`(/([ab.]{0,3}|%2e|%2E|%61|%2f|\\)){0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		path := raw.Draw(t, "path")
		once := normalise(path)
		if isNormal(path) != (once == path) {
			t.Fatalf("%q becomes %q, but isNormal is %v", path, once, isNormal(path))
		}
		if normalise(once) != once {
			t.Fatalf("%q becomes %q, then %q", path, once, normalise(once))
		}
		for part := range strings.SplitSeq(once, "/") {
			if part == "." || part == ".." {
				t.Fatalf("%q becomes %q", path, once)
			}
		}
	})
}

// TestANotValueIsTheOppositeOfAValue holds for whatever a request has.
func TestANotValueIsTheOppositeOfAValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.StringMatching(`[ab/*]{1,4}`), 1, 3).Draw(t, "values")
		for _, a := range []attribute{principals, namespaces, hosts, methods, paths, header, trustDomains, serverName, claims} {
			f := field{attribute: a, key: []string{"x"}, values: values}
			with, err := f.compile("ns", "")
			if err != nil {
				return // two stars of a namespace
			}
			f.values, f.not = nil, values
			without, err := f.compile("ns", "")
			if err != nil {
				t.Fatal(err)
			}
			h := &fakeHeaders{}
			if rapid.Bool().Draw(t, "header") {
				h.add("x", someText.Draw(t, "x"))
			}
			r := &Request{Headers: h, Method: someText.Draw(t, "method"), Host: someText.Draw(t, "host"), Principal: rapid.SampledFrom([]string{"", "spiffe://a/ns/b/sa/ab"}).Draw(t, "principal")}
			v := view{Request: r, path: someText.Draw(t, "path")}
			if with.holds(&v) == without.holds(&v) {
				t.Fatalf("attribute %d, values %q: both %v", a, values, with.holds(&v))
			}
		}
	})
}
