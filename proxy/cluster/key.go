package cluster

import (
	"net"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// Key reads the part of the request that the settings hash; the path is with
// its query. Without that part the key has no hash. setCookie is the value of a
// Set-Cookie header that must be added to the answer, seldom not empty.
func (c *Cluster) Key(x *exchange.Exchange, path string) (k Key, setCookie string) {
	h := &c.settings.HashKey
	var value string
	switch {
	case h.Header != "":
		value = x.Request.Get(h.Header)
	case h.Cookie != "":
		value = cookie(x.Request.Get("cookie"), h.Cookie)
		if value == "" && h.Generate {
			value, setCookie = c.newCookie()
		}
	case h.SourceIP:
		value = ip(x.Downstream)
	case h.QueryParameter != "":
		value = parameter(path, h.QueryParameter)
	}
	if value == "" {
		return Key{}, ""
	}
	return Key{Hash: xxhash.Sum64String(value), HasHash: true}, setCookie
}

// newCookie makes a value and the header that sets it.
func (c *Cluster) newCookie() (value, header string) {
	h := &c.settings.HashKey
	value = strconv.FormatUint(c.random(), 16)
	var b strings.Builder
	b.WriteString(h.Cookie + `="` + value + `"`)
	if h.TTL > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(h.TTL.Seconds()), 10))
	}
	if h.Path != "" {
		b.WriteString("; Path=" + h.Path)
	}
	b.WriteString("; HttpOnly")
	return value, b.String()
}

// cookie finds a value in a Cookie header (RFC 6265 section 4.2), without the
// quotation marks that it may stand in.
func cookie(header, name string) string {
	for header != "" {
		var pair string
		pair, header, _ = strings.Cut(header, ";")
		key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		if ok && key == name {
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			return value
		}
	}
	return ""
}

// ip is the address without its port and brackets.
func ip(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// parameter finds the first value of a query parameter, as it is written.
func parameter(path, name string) string {
	_, query, _ := strings.Cut(path, "?")
	query, _, _ = strings.Cut(query, "#")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value
		}
	}
	return ""
}
