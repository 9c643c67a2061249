package policy

import (
	"fmt"
	"strings"
	"time"
)

// Summaries says in plain words what each rule does, in order.
func (p *TrafficPolicy) Summaries() []string {
	out := make([]string, len(p.Spec.Rules))
	for i := range p.Spec.Rules {
		out[i] = p.Spec.Rules[i].summary()
	}
	return out
}

func (r *Rule) summary() string {
	if r.Access != nil {
		if r.Match == "" {
			return strings.ToLower(r.Access.Action) + " every request"
		}
		return strings.ToLower(r.Access.Action) + " if " + r.Match
	}
	per := ""
	if len(r.Limit.Key) > 0 {
		per = " per " + strings.Join(r.Limit.Key, " and ")
	}
	s := rateWords(r.Limit.Rates, per)
	if r.Limit.Scope == ScopePod {
		s += ", in each pod"
	}
	if r.Match != "" {
		s += ", if " + r.Match
	}
	for _, o := range r.Limit.Overrides {
		s += "; " + rateWords(o.Rates, per) + " if " + o.Match
	}
	return s
}

func rateWords(rs []Rate, per string) string {
	words := make([]string, len(rs))
	for i, r := range rs {
		requests := "requests"
		if r.Limit == 1 {
			requests = "request"
		}
		words[i] = fmt.Sprintf("%d %s per %s%s, burst %d", r.Limit, requests, shortDuration(time.Duration(r.Window)), per, r.Burst)
	}
	return strings.Join(words, " and ")
}

// shortDuration writes 1m where Go writes 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
