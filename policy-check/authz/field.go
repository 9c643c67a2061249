package authz

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/telemesh/telemesh/policy-check/expr"
)

// attribute is what a condition looks at.
type attribute uint8

const (
	principals attribute = iota
	requestPrincipals
	namespaces
	serviceAccounts
	trustDomains
	sourceIP
	remoteIP
	destinationIP
	destinationPort
	serverName // TLS SNI
	hosts
	methods
	paths
	header
	audiences
	presenter
	claims
)

// httpOnly tells whether an opaque connection has no such thing.
func (a attribute) httpOnly() bool {
	switch a {
	case requestPrincipals, hosts, methods, paths, header, audiences, presenter, claims:
		return true
	}
	return false
}

// field is one field of a rule, as written.
type field struct {
	name        string
	attribute   attribute
	key         []string // the header's name, or the way to a claim
	values, not []string
}

func (s *Source) fields() []field {
	return given([]field{
		{"principals", principals, nil, s.Principals, s.NotPrincipals},
		{"requestPrincipals", requestPrincipals, nil, s.RequestPrincipals, s.NotRequestPrincipals},
		{"namespaces", namespaces, nil, s.Namespaces, s.NotNamespaces},
		{"serviceAccounts", serviceAccounts, nil, s.ServiceAccounts, s.NotServiceAccounts},
		{"trustDomains", trustDomains, nil, s.TrustDomains, s.NotTrustDomains},
		{"ipBlocks", sourceIP, nil, s.IPBlocks, s.NotIPBlocks},
		{"remoteIpBlocks", remoteIP, nil, s.RemoteIPBlocks, s.NotRemoteIPBlocks},
	})
}

func (o *Operation) fields() []field {
	return given([]field{
		{"ports", destinationPort, nil, o.Ports, o.NotPorts},
		{"methods", methods, nil, o.Methods, o.NotMethods},
		{"hosts", hosts, nil, o.Hosts, o.NotHosts},
		{"paths", paths, nil, o.Paths, o.NotPaths},
	})
}

func given(all []field) []field {
	out := all[:0]
	for _, f := range all {
		if len(f.values)+len(f.not) > 0 {
			out = append(out, f)
		}
	}
	return out
}

// plainKeys are the keys of when without brackets.
var plainKeys = map[string]attribute{
	"source.ip": sourceIP, "remote.ip": remoteIP, "source.namespace": namespaces, "source.principal": principals,
	"source.serviceAccount": serviceAccounts, "source.trustDomain": trustDomains,
	"request.auth.principal": requestPrincipals, "request.auth.audiences": audiences, "request.auth.presenter": presenter,
	"destination.ip": destinationIP, "destination.port": destinationPort, "connection.sni": serverName,
}

// field reads the condition's key.
func (c *Condition) field() (field, error) {
	f := field{name: c.Key, values: c.Values, not: c.NotValues}
	if a, ok := plainKeys[c.Key]; ok {
		f.attribute = a
		return f, nil
	}
	if rest, ok := strings.CutPrefix(c.Key, "request.headers["); ok {
		name, whole := strings.CutSuffix(rest, "]")
		if !whole || !isFieldName(name) {
			return f, fmt.Errorf("when: key %q must be request.headers[NAME], with the name of a header field", c.Key)
		}
		f.attribute, f.key = header, []string{strings.ToLower(name)}
		return f, nil
	}
	if rest, ok := strings.CutPrefix(c.Key, "request.auth.claims["); ok {
		path, whole := strings.CutSuffix(rest, "]")
		f.attribute, f.key = claims, strings.Split(path, "][")
		for _, name := range f.key {
			whole = whole && name != "" && !strings.ContainsAny(name, "[]")
		}
		if !whole {
			return f, fmt.Errorf("when: key %q must be request.auth.claims[NAME], or [NAME][NAME] for a nested claim", c.Key)
		}
		return f, nil
	}
	names := []string{"request.headers[NAME]", "request.auth.claims[NAME]"}
	for name := range plainKeys {
		names = append(names, name)
	}
	reason := fmt.Sprintf("when: key %q is not supported", c.Key)
	if near := expr.Nearest(c.Key, names); near != "" {
		reason += "; did you mean " + near + "?"
	}
	return f, errors.New(reason)
}

// condition is a compiled field: one of the values must match and none of the
// not-values.
type condition struct {
	attribute attribute
	key       []string
	values    matchers
	not       matchers
}

// matchers of one kind; which slice is used depends on the attribute.
type matchers struct {
	texts    []text
	prefixes []netip.Prefix
	ports    []uint16
}

func (m *matchers) empty() bool { return len(m.texts)+len(m.prefixes)+len(m.ports) == 0 }

// compile makes the condition of a field. namespace is the policy's, trustDomain
// the mesh's; both may be empty where only errors are of interest.
func (f *field) compile(namespace, trustDomain string) (condition, error) {
	c := condition{attribute: f.attribute, key: f.key}
	for _, side := range []struct {
		from []string
		to   *matchers
	}{{f.values, &c.values}, {f.not, &c.not}} {
		for _, v := range side.from {
			if err := side.to.add(f.attribute, v, namespace, trustDomain); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

func (m *matchers) add(a attribute, v, namespace, trustDomain string) error {
	switch a {
	case sourceIP, remoteIP, destinationIP:
		p, err := parsePrefix(v)
		if err != nil {
			return err
		}
		m.prefixes = append(m.prefixes, p)
	case destinationPort:
		port, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a port from 0 to 65535", v)
		}
		m.ports = append(m.ports, uint16(port))
	default:
		t, err := compileText(a, v, namespace, trustDomain)
		if err != nil {
			return err
		}
		m.texts = append(m.texts, t)
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a CIDR block", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func compileText(a attribute, v, namespace, trustDomain string) (text, error) {
	switch a {
	case principals:
		return principalText(v, trustDomain), nil
	case namespaces:
		return globText(v)
	case serviceAccounts:
		return serviceAccountText(v, namespace)
	case requestPrincipals:
		return requestPrincipalText(v), nil
	case paths:
		return pathText(v)
	}
	t := simpleText(v)
	t.fold = a == hosts
	return t, nil
}
