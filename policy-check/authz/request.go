package authz

import (
	"net/netip"
	"strings"

	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// Headers are a request's, names in lower case.
type Headers interface {
	// At is the i-th value of the name, from 0.
	At(name string, i int) (value string, ok bool)
	Set(name, value string)
	Del(name string)
}

// Request is what a decision looks at. Texts may be views into buffers: nothing
// of them is kept.
type Request struct {
	// TCP: an opaque connection, which has nothing of HTTP.
	TCP bool
	// Path is the request target with its query.
	Method, Path, Host, Scheme string
	// Headers may be changed by RequestAuthentication. Nil only with TCP.
	Headers Headers
	// Principal is the caller's SPIFFE ID by its certificate, empty without.
	Principal string
	// Source is the address that the connection came from, host:port.
	Source string
	// Destination is where it went to.
	Destination netip.AddrPort
	ServerName  string // TLS SNI
}

// view is a request as conditions look at it: what several of them need is made
// once.
type view struct {
	*Request
	path   string // without query, possibly normalised
	claims *jwt.Claims
	source netip.Addr
	remote netip.Addr
}

func (v *view) sourceIP() netip.Addr {
	if !v.source.IsValid() {
		if a, err := netip.ParseAddrPort(v.Source); err == nil {
			v.source = a.Addr().Unmap().WithZone("")
		}
	}
	return v.source
}

// remoteIP is the last address of x-forwarded-for, which the nearest proxy wrote,
// as Envoy takes it without trusted hops; without the header it is the source. It
// is as good as that proxy: whoever reaches the sidecar directly writes what it
// likes.
func (v *view) remoteIP() netip.Addr {
	if v.remote.IsValid() {
		return v.remote
	}
	v.remote = v.sourceIP()
	if v.TCP || v.Headers == nil {
		return v.remote
	}
	last := ""
	for i := 0; ; i++ {
		value, ok := v.Headers.At("x-forwarded-for", i)
		if !ok {
			break
		}
		last = value
	}
	if last != "" {
		if a, err := netip.ParseAddr(strings.Trim(last[strings.LastIndexByte(last, ',')+1:], " \t")); err == nil {
			v.remote = a.Unmap().WithZone("")
		}
	}
	return v.remote
}

// headerValue joins the values of a field that came several times, as Envoy does
// before it compares.
func (v *view) headerValue(name string) (string, bool) {
	if name == "host" { // HTTP/2 has it elsewhere
		return v.Host, v.Host != ""
	}
	first, ok := v.Headers.At(name, 0)
	if _, more := v.Headers.At(name, 1); !more {
		return first, ok
	}
	all := []string{first}
	for i := 1; ; i++ {
		next, ok := v.Headers.At(name, i)
		if !ok {
			return strings.Join(all, ","), true
		}
		all = append(all, next)
	}
}

// split separates a path from its query, and normalises it: normal is the path as
// an application may read it that resolves dots and escapes. same tells that it
// does not differ, which costs nothing.
func split(target string) (path, normal string, same bool) {
	path = target
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		path = target[:i]
	}
	if isNormal(path) {
		return path, path, true
	}
	return path, normalise(path), false
}

// isNormal tells whether normalise would change nothing.
func isNormal(path string) bool {
	if path != "" && path[0] != '/' && strings.Contains(path, "://") {
		return false
	}
	for i := range len(path) {
		switch path[i] {
		case '\\':
			return false
		case '%':
			if c, ok := escapedAt(path, i); ok && isUnreserved(c) {
				return false
			}
		case '/':
			rest := path[i+1:]
			if rest == "." || rest == ".." || strings.HasPrefix(rest, "./") || strings.HasPrefix(rest, "../") {
				return false
			}
		}
	}
	return true
}

// normalise is Istio's pathNormalization BASE (RFC 3986, sections 6.2.2 and
// 6.2.3): escapes of unreserved characters are written out, backslashes are
// slashes, dot segments are removed.
func normalise(path string) string {
	if i := strings.Index(path, "://"); i > 0 && path[0] != '/' { // absolute form
		rest := path[i+3:]
		at := strings.IndexByte(rest, '/')
		if at < 0 {
			return "/"
		}
		path = rest[at:]
	}
	path = strings.ReplaceAll(unreserved(path), `\`, "/")
	if !strings.HasPrefix(path, "/") {
		return path // "*", or the authority of CONNECT
	}
	var out []string
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case ".", "..":
			if part == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, part)
		}
	}
	return "/" + strings.Join(out, "/")
}

func unreserved(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if c, ok := escapedAt(s, i); ok && isUnreserved(c) {
			out = append(out, c)
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

// escapedAt decodes a percent sign and two digits.
func escapedAt(s string, i int) (byte, bool) {
	if s[i] != '%' || i+2 >= len(s) {
		return 0, false
	}
	h, l := hexDigit(s[i+1]), hexDigit(s[i+2])
	return byte(h<<4 | l), h >= 0 && l >= 0
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
