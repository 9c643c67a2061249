package ratelimit

import (
	"strings"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
)

// match is the limit of one descriptor of a request. The zero value stands for
// none.
type match struct {
	rule *rule
	// steps are the descriptors that the entries met, in order. They are kept
	// only if the key or the metric of the rule needs them.
	steps []*descriptor
	// shared tells that some value counts as its wildcard, and spelled that
	// the metric has values of the request in it.
	shared, spelled bool
}

// match finds the limit for a descriptor: as many levels as it has entries. At
// each level an entry meets its very value, else the first wildcard in the file
// that fits, else its key alone; there is no way back from a level that has
// been met. steps is memory for match.steps.
func (d *Domain) match(entries []*commonv3.RateLimitDescriptor_Entry, steps []*descriptor) match {
	var m match
	at := &d.root
	for i, e := range entries {
		if at == nil {
			return match{}
		}
		one, byValue := at.find(e.GetKey(), e.GetValue())
		if one == nil {
			return match{}
		}
		steps = append(steps, one)
		m.shared = m.shared || one.share && byValue
		m.spelled = m.spelled || one.valueToMetric
		if i == len(entries)-1 {
			m.rule = one.rule
		}
		at = one.below
	}
	if m.rule == nil {
		return match{}
	}
	m.steps = steps
	m.spelled = m.spelled || m.rule.detailed
	return m
}

// find returns what an entry meets, and whether its value had a part in that.
func (l *level) find(key, value string) (one *descriptor, byValue bool) {
	if value != "" {
		if one = l.exact[entry{key, value}]; one != nil {
			return one, true
		}
	}
	for _, one = range l.wildcards {
		if one.key == key && fits(one.pattern, value) {
			return one, true
		}
	}
	return l.keys[key], false
}

// fits tells whether a value is a pattern's parts with anything between them.
func fits(parts []string, value string) bool {
	rest, ok := strings.CutPrefix(value, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	if rest, ok = strings.CutSuffix(rest, parts[last]); !ok {
		return false
	}
	// The leftmost place for each part leaves the most for those behind it.
	for _, part := range parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return true
}

// counted is the value that an entry counts under.
func (m *match) counted(i int, value string) string {
	if m.shared && m.steps[i].share {
		return m.steps[i].value
	}
	return value
}

// path is the rule's name in metrics, with the values of the request that its
// detailed_metric and value_to_metric ask for.
func (m *match) path(entries []*commonv3.RateLimitDescriptor_Entry) string {
	if !m.spelled {
		return m.rule.path
	}
	var b strings.Builder
	for i, e := range entries {
		if i > 0 {
			b.WriteByte('.')
		}
		one := m.steps[i]
		value := one.value
		if !one.share && (m.rule.detailed || one.valueToMetric) {
			value = e.GetValue()
		}
		b.WriteString(entry{one.key, value}.String())
	}
	return b.String()
}
