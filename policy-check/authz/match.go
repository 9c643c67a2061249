package authz

import (
	"net/netip"
	"strings"

	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// holds tells whether one of the values matches and none of the not-values. What
// a request has not got matches no value and no not-value.
func (c *condition) holds(v *view) bool {
	return (c.values.empty() || c.any(&c.values, v)) && (c.not.empty() || !c.any(&c.not, v))
}

func (c *condition) any(m *matchers, v *view) bool {
	switch c.attribute {
	case sourceIP:
		return m.contain(v.sourceIP())
	case remoteIP:
		return m.contain(v.remoteIP())
	case destinationIP:
		return m.contain(v.Destination.Addr().Unmap().WithZone(""))
	case destinationPort:
		return v.Destination.IsValid() && m.havePort(v.Destination.Port())
	case requestPrincipals, audiences, presenter, claims:
		return v.claims != nil && c.anyClaim(m, v.claims)
	case header:
		value, ok := v.headerValue(c.key[0])
		return ok && (m.isPresence() || m.match(value))
	case principals:
		return v.Principal != "" && m.match(strings.TrimPrefix(v.Principal, spiffeScheme))
	case trustDomains:
		domain, _, _ := strings.Cut(strings.TrimPrefix(v.Principal, spiffeScheme), "/")
		return domain != "" && m.match(domain)
	case namespaces:
		return anyNamespace(m, v.Principal)
	case serviceAccounts:
		return anyAccount(m, v.Principal)
	case serverName:
		return v.ServerName != "" && m.match(v.ServerName)
	case hosts:
		return m.match(v.Host)
	case methods:
		return m.match(v.Method)
	}
	return m.match(v.path)
}

func (m *matchers) contain(a netip.Addr) bool {
	for i := range m.prefixes {
		if m.prefixes[i].Contains(a) {
			return true
		}
	}
	return false
}

func (m *matchers) havePort(port uint16) bool {
	for _, p := range m.ports {
		if p == port {
			return true
		}
	}
	return false
}

func (m *matchers) match(s string) bool {
	for i := range m.texts {
		if m.texts[i].matches(s) {
			return true
		}
	}
	return false
}

// isPresence tells that a header is asked for whatever it says, even nothing.
func (m *matchers) isPresence() bool {
	for i := range m.texts {
		if m.texts[i].form == present {
			return true
		}
	}
	return false
}

// anyNamespace looks at every .../ns/NAMESPACE/... of a SPIFFE ID.
func anyNamespace(m *matchers, principal string) bool {
	for rest := principal; ; {
		at := strings.Index(rest, nsMark)
		if at < 0 {
			return false
		}
		if namespace, _, more := strings.Cut(rest[at+len(nsMark):], "/"); more && m.match(namespace) {
			return true
		}
		rest = rest[at+len(nsMark)-1:] // its last slash may begin the next
	}
}

// anyAccount looks for /ns/NAMESPACE/ and, anywhere behind it, /sa/NAME.
func anyAccount(m *matchers, principal string) bool {
	for rest := principal; ; {
		at := strings.Index(rest, nsMark)
		if at < 0 {
			return false
		}
		rest = rest[at+len(nsMark)-1:]
		end := strings.IndexByte(rest[1:], '/')
		if end < 0 {
			return false
		}
		for i := range m.texts {
			if m.texts[i].value == rest[1:1+end] && hasAccount(rest[1+end:], m.texts[i].tail) {
				return true
			}
		}
	}
}

func hasAccount(path, name string) bool {
	for {
		at := strings.Index(path, saMark)
		if at < 0 {
			return false
		}
		path = path[at+len(saMark)-1:]
		account, _, _ := strings.Cut(path[1:], "/")
		if account == name {
			return true
		}
	}
}

// The marks within a SPIFFE ID of Istio's form.
const (
	spiffeScheme = "spiffe://"
	nsMark       = "/ns/"
	saMark       = "/sa/"
)

// anyClaim compares what a verified token says.
func (c *condition) anyClaim(m *matchers, have *jwt.Claims) bool {
	switch c.attribute {
	case requestPrincipals:
		for i := range m.texts {
			if t := &m.texts[i]; have.Issuer != "" && have.Subject != "" && t.head.matches(have.Issuer) && t.rest.matches(have.Subject) {
				return true
			}
		}
		return false
	case audiences:
		for _, a := range have.Audiences {
			if m.match(a) {
				return true
			}
		}
		return false
	case presenter:
		return have.Any(presenterClaim, m.match)
	}
	return have.Any(c.key, m.match)
}

// presenterClaim is who may use a token (OpenID Connect Core, section 2).
var presenterClaim = []string{"azp"}
