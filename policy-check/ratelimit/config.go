package ratelimit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/structpb"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/folder"
)

const (
	maxFileBytes = 16 << 20
	// maxDepth bounds nested descriptors; a request with more entries than
	// this matches nothing.
	maxDepth = 64
	// maxTextBytes bounds a key or value: every rule keeps all of its parents'.
	maxTextBytes = 1024
)

// Format is a directory of these files, for package folder.
func Format() folder.Format[*Domain] {
	return folder.Format[*Domain]{
		Noun: "rate limit domain", Nouns: "rate limit domains", Parse: Parse,
		ID:   func(d *Domain) string { return d.Name },
		Line: func(d *Domain) int { return d.Line },
	}
}

// Domain is the limits of one domain. It is immutable once parsed and safe for
// concurrent use.
type Domain struct {
	Name string
	// Line is where the domain begins in the file that it was read from.
	Line int

	root  level
	rules []*rule
}

// Limits is how many rate_limit blocks the domain has.
func (d *Domain) Limits() int { return len(d.rules) }

// level is one list of descriptors.
type level struct {
	exact     map[entry]*descriptor
	wildcards []*descriptor // in the order of the file
	keys      map[string]*descriptor
}

// entry is a descriptor's key and value.
type entry struct{ key, value string }

// descriptor is one item of a list. Which of a level's fields it is in says how
// it matches.
type descriptor struct {
	entry
	pattern       []string // the value between its asterisks; nil without any
	share         bool
	valueToMetric bool
	rule          *rule  // nil without a rate_limit
	below         *level // nil without descriptors
}

// rule is one rate_limit block and the flags beside it.
type rule struct {
	// index is the rule's place in its domain.
	index int
	// path is the rule in metrics: "key_value.key".
	path      string
	limit     *rlsv3.RateLimitResponse_RateLimit // shared by all answers
	unlimited bool
	shadow    bool
	quota     bool
	detailed  bool
	name      string
	replaces  []string
	metadata  *structpb.Struct
}

// windowSeconds are the lengths of the windows. As in envoyproxy/ratelimit a
// month has 30 days and a year 365, and every window begins at a multiple of
// its length since 1970 in UTC; weeks therefore begin on Thursdays.
func windowSeconds(u rlsv3.RateLimitResponse_RateLimit_Unit) int64 {
	const day = 24 * 60 * 60
	switch u {
	case rlsv3.RateLimitResponse_RateLimit_SECOND:
		return 1
	case rlsv3.RateLimitResponse_RateLimit_MINUTE:
		return 60
	case rlsv3.RateLimitResponse_RateLimit_HOUR:
		return 60 * 60
	case rlsv3.RateLimitResponse_RateLimit_DAY:
		return day
	case rlsv3.RateLimitResponse_RateLimit_WEEK:
		return 7 * day
	case rlsv3.RateLimitResponse_RateLimit_MONTH:
		return 30 * day
	case rlsv3.RateLimitResponse_RateLimit_YEAR:
		return 365 * day
	}
	return 0 // unknown
}

// Parse reads a file of envoyproxy/ratelimit's YAML: one domain, or one in each
// document. It returns the domains without a problem and all problems of the
// others, in the order of the file.
func Parse(file string, data []byte) ([]*Domain, []*policy.ParseError) {
	r := &reader{file: file, nodes: max(leastNodes, len(data))}
	if len(data) > maxFileBytes {
		r.fail(&yaml.Node{}, "file of %d bytes is larger than %d: split it by domain", len(data), maxFileBytes)
		return nil, r.problems
	}
	var out []*Domain
	seen := make(map[string]int) // by name, the line
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return out, r.problems
		} else if err != nil {
			r.failSyntax(err)
			return out, r.problems
		}
		if doc.Kind != yaml.DocumentNode || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null" {
			continue
		}
		n := doc.Content[0]
		before := len(r.problems)
		domain := r.domain(n)
		if first, twice := seen[domain.Name]; twice {
			r.fail(n, "domain %s is already defined at line %d: put its descriptors into one list", domain.Name, first)
		}
		if len(r.problems) == before {
			seen[domain.Name] = n.Line
			out = append(out, domain)
		}
	}
}

// failSyntax reports what is not YAML. The library gives a line at best.
func (r *reader) failSyntax(err error) {
	reason, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(reason, "line "); ok {
		number, message, found := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil && found {
			line, reason = n, message
		}
	}
	r.fail(&yaml.Node{Line: line}, "not valid YAML: %s", reason)
}

func (r *reader) domain(n *yaml.Node) *Domain {
	d := &Domain{Line: max(n.Line, 1)}
	r.mapping(n, "file",
		field{"domain", true, func(n *yaml.Node) {
			if d.Name = r.text(n, "domain"); d.Name == "" {
				r.fail(n, "domain is empty")
			}
		}},
		field{"descriptors", false, func(n *yaml.Node) { r.level(n, d, &d.root, "", 1) }},
	)
	return d
}

// level reads a list of descriptors whose parents have the path above.
func (r *reader) level(n *yaml.Node, d *Domain, l *level, above string, depth int) {
	if depth > maxDepth {
		r.fail(n, "descriptors are nested more than %d deep", maxDepth)
		return
	}
	l.exact, l.keys = make(map[entry]*descriptor), make(map[string]*descriptor)
	lines := make(map[entry]int)
	r.list(n, "descriptors", func(n *yaml.Node) {
		one := r.descriptor(n, d, above, depth)
		if one.key == "" {
			return // refused
		}
		if line, twice := lines[one.entry]; twice {
			r.fail(n, "descriptor %s%s is already defined at line %d", above, one.entry, line)
			return
		}
		lines[one.entry] = n.Line
		switch {
		case one.value == "":
			l.keys[one.key] = one
		case one.pattern != nil:
			l.wildcards = append(l.wildcards, one)
			// As in envoyproxy/ratelimit, a request whose value is the pattern
			// itself matches it before others do.
			l.exact[one.entry] = one
		default:
			l.exact[one.entry] = one
		}
	})
}

// String is the entry as metrics spell it.
func (e entry) String() string {
	if e.value == "" {
		return e.key
	}
	return e.key + "_" + e.value
}

func (r *reader) descriptor(n *yaml.Node, d *Domain, above string, depth int) *descriptor {
	one := &descriptor{}
	var limit, below, share *yaml.Node
	flags := &rule{} // rate_limit may stand before or after them
	r.mapping(n, "descriptor",
		field{"key", true, func(n *yaml.Node) {
			if one.key = r.short(n, "key"); one.key == "" {
				r.fail(n, "descriptor has an empty key")
			}
		}},
		field{"value", false, func(n *yaml.Node) { one.value = r.short(n, "value") }},
		field{"rate_limit", false, func(n *yaml.Node) { limit = n }},
		field{"descriptors", false, func(n *yaml.Node) { below = n }},
		field{"shadow_mode", false, func(n *yaml.Node) { flags.shadow = r.boolean(n, "shadow_mode") }},
		field{"quota_mode", false, func(n *yaml.Node) { flags.quota = r.boolean(n, "quota_mode") }},
		field{"detailed_metric", false, func(n *yaml.Node) { flags.detailed = r.boolean(n, "detailed_metric") }},
		field{"value_to_metric", false, func(n *yaml.Node) { one.valueToMetric = r.boolean(n, "value_to_metric") }},
		field{"share_threshold", false, func(n *yaml.Node) { one.share, share = r.boolean(n, "share_threshold"), n }},
		field{"metadata", false, func(n *yaml.Node) { flags.metadata = r.metadata(n) }},
	)
	if strings.Contains(one.value, "*") {
		one.pattern = strings.Split(one.value, "*")
	}
	if one.share && one.pattern == nil {
		r.fail(share, "share_threshold needs a value with *, which %q is not", one.value)
	}
	path := above + one.String()
	if limit != nil {
		one.rule = flags
		one.rule.index, one.rule.path = len(d.rules), path
		r.rateLimit(limit, one.rule)
		d.rules = append(d.rules, one.rule)
	}
	if below != nil && below.Kind == yaml.SequenceNode && len(below.Content) == 0 {
		below = nil
	}
	if below != nil {
		one.below = &level{}
		r.level(below, d, one.below, path+".", depth+1)
	}
	return one
}

// short reads a key or a value.
func (r *reader) short(n *yaml.Node, what string) string {
	text := r.text(n, what)
	if len(text) > maxTextBytes {
		r.fail(n, "%s of %d bytes is longer than %d", what, len(text), maxTextBytes)
	}
	return text
}

func (r *reader) rateLimit(n *yaml.Node, to *rule) {
	var unit, requests *yaml.Node
	to.limit = &rlsv3.RateLimitResponse_RateLimit{}
	before := len(r.problems)
	r.mapping(n, "rate_limit",
		field{"unit", false, func(n *yaml.Node) { unit = n; to.limit.Unit = r.unit(n) }},
		field{"requests_per_unit", false, func(n *yaml.Node) {
			requests = n
			to.limit.RequestsPerUnit = r.uint32(n, "requests_per_unit")
		}},
		field{"unlimited", false, func(n *yaml.Node) { to.unlimited = r.boolean(n, "unlimited") }},
		field{"name", false, func(n *yaml.Node) { to.name = r.text(n, "name"); to.limit.Name = to.name }},
		field{"replaces", false, func(n *yaml.Node) {
			r.list(n, "replaces", func(n *yaml.Node) { to.replaces = append(to.replaces, r.replaced(n)) })
		}},
	)
	if len(r.problems) > before {
		return
	}
	switch {
	case to.unlimited && unit != nil:
		r.fail(unit, "rate_limit is unlimited and has a unit: leave one out")
	case !to.unlimited && unit == nil:
		r.fail(n, "rate_limit: field unit is required, or unlimited: true")
	case !to.unlimited && requests == nil:
		r.fail(n, "rate_limit: field requests_per_unit is required; 0 refuses everything")
	}
	for _, name := range to.replaces {
		if name == to.name {
			r.fail(n, "rate_limit %s replaces itself", name)
		}
	}
}

func (r *reader) replaced(n *yaml.Node) (name string) {
	r.mapping(n, "replaces", field{"name", true, func(n *yaml.Node) {
		if name = r.text(n, "replaces.name"); name == "" {
			r.fail(n, "replaces has an empty name")
		}
	}})
	return name
}

func (r *reader) unit(n *yaml.Node) rlsv3.RateLimitResponse_RateLimit_Unit {
	text := r.text(n, "unit")
	u := rlsv3.RateLimitResponse_RateLimit_Unit(rlsv3.RateLimitResponse_RateLimit_Unit_value[strings.ToUpper(text)])
	if windowSeconds(u) == 0 {
		r.fail(n, "unit must be second, minute, hour, day, week, month or year, is %q", text)
	}
	return u
}

// metadata reads what an answer tells Envoy when the descriptor is within its
// limit: any YAML that is JSON.
func (r *reader) metadata(n *yaml.Node) *structpb.Struct {
	var v map[string]any
	if err := n.Decode(&v); err != nil {
		r.fail(n, "metadata must be a mapping with text keys")
		return nil
	}
	s, err := structpb.NewStruct(plain(v))
	if err != nil {
		r.fail(n, "metadata: %v", err)
	}
	return s
}

// plain turns what YAML has and JSON has not into text.
func plain(m map[string]any) map[string]any {
	for k, v := range m {
		m[k] = plainValue(v)
	}
	return m
}

func plainValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return plain(v)
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[fmt.Sprint(k)] = plainValue(item)
		}
		return out
	case []any:
		for i := range v {
			v[i] = plainValue(v[i])
		}
		return v
	case nil, bool, int, int64, uint64, float64, string:
		return v
	}
	return fmt.Sprint(v) // a date
}
