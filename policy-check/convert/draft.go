package convert

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	policy "github.com/telemesh/telemesh/policy-check"
)

// draft is a TrafficPolicy as it is written: what has a default is left out.
type draft struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
	Spec struct {
		Targets []target `yaml:"targetRefs"`
		Mode    string   `yaml:"mode,omitempty"`
		Rules   []*rule  `yaml:"rules"`
	} `yaml:"spec"`

	from value
}

type target struct {
	Kind string `yaml:"kind"`
	Name string `yaml:"name"`
}

type rule struct {
	Name     string    `yaml:"name"`
	Match    string    `yaml:"match,omitempty"`
	Access   *access   `yaml:"access,omitempty"`
	Limit    *limit    `yaml:"limit,omitempty"`
	Response *response `yaml:"response,omitempty"`

	from value
}

type access struct {
	Action string `yaml:"action"`
}

type limit struct {
	Key       []string   `yaml:"key,omitempty"`
	Rates     []rate     `yaml:"rates"`
	Overrides []override `yaml:"overrides,omitempty"`
	Scope     string     `yaml:"scope,omitempty"`
}

type rate struct {
	Limit  int64  `yaml:"limit"`
	Window string `yaml:"window"`
	Burst  int64  `yaml:"burst,omitempty"`
}

type override struct {
	Match string `yaml:"match"`
	Rates []rate `yaml:"rates"`
}

type response struct {
	Status int    `yaml:"status,omitempty"`
	Body   string `yaml:"body,omitempty"`
}

// rateOf is so many requests in a window, all of which may come at once, as the
// window of other limiters lets them.
func rateOf(requests int64, window time.Duration) rate {
	return rate{Limit: requests, Window: shortDuration(window), Burst: requests}
}

// shortDuration is a duration without the zeros that Go prints.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// add begins a policy. Its rules are appended to it; one without rules is not
// written.
func (c *converter) add(from value, name, namespace, mode string, targets ...target) *draft {
	p := &draft{APIVersion: policy.APIVersion, Kind: policy.Kind, from: from}
	p.Metadata.Name, p.Metadata.Namespace = c.unique(dnsName(name), namespace), namespace
	p.Spec.Targets, p.Spec.Mode = targets, mode
	c.out = append(c.out, p)
	return p
}

// unique is a name that no policy of the namespace has yet.
func (c *converter) unique(name, namespace string) string {
	taken := func(name string) bool {
		for _, p := range c.out {
			if p.Metadata.Name == name && p.Metadata.Namespace == namespace {
				return true
			}
		}
		return false
	}
	for n, first := 2, name; taken(name); n++ {
		name = fmt.Sprintf("%s-%d", first, n)
	}
	return name
}

var notOfNames = regexp.MustCompile(`[^a-z0-9]+`)

// dnsName makes a name of a text that need not be one.
func dnsName(s string) string {
	s = strings.Trim(notOfNames.ReplaceAllString(strings.ToLower(s), "-"), "-")
	s = strings.Trim(s[:min(len(s), 50)], "-")
	if s == "" {
		return "rule"
	}
	return s
}

// rule appends a rule under a name of its own.
func (p *draft) rule(r *rule) {
	base := dnsName(r.Name)
	r.Name = base
	for n := 2; p.has(r.Name); n++ {
		r.Name = fmt.Sprintf("%s-%d", base, n)
	}
	p.Spec.Rules = append(p.Spec.Rules, r)
}

func (p *draft) has(name string) bool {
	for _, r := range p.Spec.Rules {
		if r.Name == name {
			return true
		}
	}
	return name == policy.ImplicitDeny
}

// render writes the policies, without the rules that the language refuses.
func (c *converter) render() {
	var out bytes.Buffer
	for _, p := range c.out {
		rules := p.Spec.Rules
		p.Spec.Rules = nil
		for _, r := range rules {
			one := *p
			one.Spec.Rules = []*rule{r}
			if _, problems := policy.Parse("", one.yaml()); len(problems) > 0 {
				c.leave(r.from, "as a rule it would be refused: %s", problems[0].Reason)
				continue
			}
			p.Spec.Rules = append(p.Spec.Rules, r)
		}
		if len(p.Spec.Rules) == 0 {
			continue
		}
		if c.result.Count++; c.result.Count > 1 {
			out.WriteString("---\n")
		}
		fmt.Fprintf(&out, "# from %s in %s\n", p.from.in.title(), p.from.in.file)
		out.Write(p.yaml())
	}
	c.result.Policies = out.Bytes()
}

func (p *draft) yaml() []byte {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(p); err != nil {
		panic(err) // texts and numbers
	}
	return b.Bytes()
}
