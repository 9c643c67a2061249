package authz

import (
	"fmt"
	"strings"
)

// form is how a text is compared.
type form uint8

const (
	exact form = iota
	prefix
	suffix
	present  // anything but nothing
	around   // begins with value and ends with tail
	template // a path with {*} and {**}
	pair     // a token's issuer and subject, by head and rest
)

// text is one compiled value.
type text struct {
	form        form
	fold        bool // ASCII letters match in either case
	value, tail string
	segments    []segment
	head, rest  *text
}

// simpleText reads "*", "*end", "begin*" or a whole value.
func simpleText(v string) text {
	switch {
	case v == "*":
		return text{form: present}
	case strings.HasPrefix(v, "*"):
		return text{form: suffix, value: v[1:]}
	case strings.HasSuffix(v, "*"):
		return text{form: prefix, value: v[:len(v)-1]}
	}
	return text{form: exact, value: v}
}

// matches compares s, which is not nothing: a caller that has no such thing does
// not ask.
func (t *text) matches(s string) bool {
	switch t.form {
	case present:
		return s != ""
	case exact:
		return len(s) == len(t.value) && t.equal(s, t.value)
	case prefix:
		return len(s) >= len(t.value) && t.equal(s[:len(t.value)], t.value)
	case suffix:
		return len(s) >= len(t.value) && t.equal(s[len(s)-len(t.value):], t.value)
	case around:
		return len(s) >= len(t.value)+len(t.tail) && strings.HasPrefix(s, t.value) && strings.HasSuffix(s, t.tail)
	case template:
		return matchTemplate(t.segments, s)
	}
	return false
}

func (t *text) equal(a, b string) bool {
	if !t.fold {
		return a == b
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// localDomain stands for the mesh's own trust domain in policies.
const localDomain = "cluster.local"

// principalText compares without the scheme, as policies are written.
// cluster.local is the mesh's trust domain whatever its name is.
func principalText(v, trustDomain string) text {
	if rest, ok := strings.CutPrefix(v, localDomain+"/"); ok && trustDomain != "" {
		v = trustDomain + "/" + rest
	}
	return simpleText(v)
}

// globText reads a namespace, in which * stands for any text wherever it is.
func globText(v string) (text, error) {
	begin, end, star := strings.Cut(v, "*")
	switch {
	case !star || begin == "" || end == "":
		return simpleText(v), nil
	case strings.Contains(end, "*"):
		return text{}, fmt.Errorf("%q has more than one *", v)
	}
	return text{form: around, value: begin, tail: end}, nil
}

// serviceAccountText reads NAMESPACE/NAME, or NAME in the policy's namespace.
// value is the namespace and tail the name.
func serviceAccountText(v, namespace string) (text, error) {
	ns, name, both := strings.Cut(v, "/")
	if !both {
		ns, name = namespace, v
	}
	if strings.ContainsAny(v, "*") || name == "" || both && ns == "" || strings.Contains(name, "/") {
		return text{}, fmt.Errorf("%q must be NAME or NAMESPACE/NAME, without wildcards", v)
	}
	return text{value: ns, tail: name}, nil
}

// requestPrincipalText reads ISSUER/SUBJECT, of which one end may be a wildcard.
// The issuer may be a URL, so the last slash separates.
func requestPrincipalText(v string) text {
	issuer, subject := v, ""
	at := strings.LastIndexByte(v, '/')
	if at >= 0 {
		issuer, subject = v[:at], v[at+1:]
	}
	switch {
	case v == "*":
		return textPair(simpleText("*"), simpleText("*"))
	case strings.HasPrefix(v, "*") && at >= 0:
		return textPair(simpleText(issuerSuffix(issuer)), text{form: exact, value: subject})
	case strings.HasPrefix(v, "*"):
		return textPair(simpleText("*"), text{form: suffix, value: v[1:]})
	case strings.HasSuffix(v, "*") && at >= 0:
		return textPair(text{form: exact, value: issuer}, simpleText(subject))
	case strings.HasSuffix(v, "*"):
		return textPair(text{form: prefix, value: v[:len(v)-1]}, simpleText("*"))
	}
	return textPair(text{form: exact, value: issuer}, text{form: exact, value: subject})
}

// issuerSuffix keeps only the first star of an issuer a wildcard.
func issuerSuffix(issuer string) string { return "*" + strings.TrimPrefix(issuer, "*") }

func textPair(head, rest text) text { return text{form: pair, head: &head, rest: &rest} }

// segment is a part of a path template: a literal, one whole path segment or any
// text.
type segment struct {
	kind    segmentKind
	literal string
}

type segmentKind uint8

const (
	literal segmentKind = iota
	oneSegment
	anyText
)

// Path templates' operators.
const (
	matchOne = "{*}"
	matchAny = "{**}"
)

// pathText reads a path: as any text, or a template if it has an operator.
func pathText(v string) (text, error) {
	if !strings.ContainsAny(v, "{}") {
		return simpleText(v), nil
	}
	t := text{form: template}
	last := false
	for i, part := range strings.Split(v, "/") {
		if i > 0 {
			t.addLiteral("/")
		}
		switch {
		case part == matchOne || part == matchAny:
			if last {
				return t, fmt.Errorf("path %q: {**} must be the last operator", v)
			}
			kind := oneSegment
			if part == matchAny {
				last, kind = true, anyText
			}
			t.segments = append(t.segments, segment{kind: kind})
		case strings.ContainsAny(part, "{}"):
			return t, fmt.Errorf("path %q: braces are for {*} and {**} as whole segments", v)
		case strings.Contains(part, "*"):
			return t, fmt.Errorf("path %q: * can't be combined with {*} and {**}", v)
		default:
			t.addLiteral(part)
		}
	}
	return t, nil
}

func (t *text) addLiteral(s string) {
	if n := len(t.segments); n > 0 && t.segments[n-1].kind == literal {
		t.segments[n-1].literal += s
		return
	}
	if s != "" {
		t.segments = append(t.segments, segment{literal: s})
	}
}

// matchTemplate walks the template once: a {*} ends at the next slash, and behind
// {**} there is only a literal.
func matchTemplate(segments []segment, s string) bool {
	for i := range segments {
		switch g := &segments[i]; g.kind {
		case literal:
			if !strings.HasPrefix(s, g.literal) {
				return false
			}
			s = s[len(g.literal):]
		case oneSegment:
			end := strings.IndexByte(s, '/')
			if end < 0 {
				end = len(s)
			}
			if end == 0 {
				return false
			}
			s = s[end:]
		case anyText:
			tail := ""
			if i+1 < len(segments) {
				tail = segments[i+1].literal
			}
			return strings.HasSuffix(s, tail)
		}
	}
	return s == ""
}
