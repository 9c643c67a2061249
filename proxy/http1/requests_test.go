package http1

import "strings"

// requestCase is what a downstream sends on a connection of its own.
type requestCase struct {
	name string
	send string
	// status of the answer; 200 says that the upstream gave it.
	status int
	// reason that is counted; empty for a request that goes on.
	reason string
	// forwarded is what the upstream gets, byte for byte; empty: what was sent.
	forwarded string
	// closed: the connection ends behind the answer.
	closed bool
	// differs says why a server of net/http decides otherwise; empty: it must
	// decide the same.
	differs string
}

const (
	stricter = "two readers could see two requests: refused on purpose"
	notHTTP  = "not in the grammar: refused on purpose"
)

// get is a request with these lines behind Host.
func get(lines ...string) string {
	head := "GET / HTTP/1.1\r\nHost: a\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

// post is a request with a Transfer-Encoding of chunked and this body.
func post(body string) string {
	return "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func refusedWith(status int, reason, name, send, differs string) requestCase {
	return requestCase{name: name, send: send, status: status, reason: reason, closed: true, differs: differs}
}

func refused(reason, name, send, differs string) requestCase {
	return refusedWith(400, reason, name, send, differs)
}

func passes(name, send, forwarded string) requestCase {
	return requestCase{name: name, send: send, status: 200, forwarded: forwarded}
}

var requestLines = []requestCase{
	passes("origin form", "GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	passes("a fragment, and bytes beyond ASCII", "GET /a#b\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	passes("a double slash and dots are the application's", "GET //a/../b HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	passes("a method of its own", "BREW+POT /a HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	passes("a method in lower case is another method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	{
		name: "a blank line before it", send: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200,
		forwarded: get(), differs: "RFC 9112, section 2.2, asks for it",
	},
	{
		name: "several blank lines before it", send: "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", status: 200,
		forwarded: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", differs: "RFC 9112, section 2.2, asks for one; how many come in one read must not matter",
	},
	passes("absolute form", "GET http://b/x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", "GET /x?y HTTP/1.1\r\nX: 1\r\nhost: b\r\n\r\n"),
	passes("absolute form without a path", "GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nhost: b\r\n\r\n"),
	passes("absolute form with a query and no path", "GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?q HTTP/1.1\r\nhost: b\r\n\r\n"),
	passes("absolute form, scheme in capitals", "GET HTTP://b:81/x HTTP/1.1\r\nHost: b:81\r\n\r\n", "GET /x HTTP/1.1\r\nhost: b:81\r\n\r\n"),
	passes("absolute form of OPTIONS", "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: b\r\n\r\n"),
	passes("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	passes("a later minor version", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", get()),
	refused("request_target", "asterisk of another method", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", notHTTP),
	refused("request_target", "a relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_target", "another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", stricter),
	refused("request_target", "an absolute target with no host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", stricter),
	refused("request_target", "a user in the target", "GET http://u@b/ HTTP/1.1\r\nHost: b\r\n\r\n", stricter),
	refused("request_target", "authority form of another method", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", stricter),
	refused("request_target", "CONNECT of a path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", stricter),
	refused("request_target", "CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", stricter),
	refused("request_target", "a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_target", "two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_target", "a tab in the target", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_target", "NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_target", "DEL in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "no version", "GET /\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "HTTP/0.9", "GET /\r\n\r\n", ""),
	refused("request_line", "a space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", ""),
	refused("request_line", "a space at the beginning", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "another protocol", "GET / HTCPCP/1.0\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "the version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "a method that is not a token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "a method without an end", strings.Repeat("A", 100)+" / HTTP/1.1\r\nHost: a\r\n\r\n", "a bound of ours"),
	refused("request_line", "a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", ""),
	refusedWith(505, "version", "version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", ""),
	refusedWith(505, "version", "version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", ""),
	refused("request_line", "a version of two digits", "GET / HTTP/11.1\r\nHost: a\r\n\r\n", ""),
	refusedWith(505, "version", "HTTP/2's preface without HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "net/http knows it"),
	refused("bare_lf", "a bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", stricter),
	refused("request_target", "a bare CR in the request line", "GET /\rX HTTP/1.1\r\nHost: a\r\n\r\n", ""),
}

var hosts = []requestCase{
	refused("host", "none", "GET / HTTP/1.1\r\nX: 1\r\n\r\n", ""),
	refused("host", "two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ""),
	refused("host", "twice the same", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", ""),
	refused("host", "a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ""),
	refused("host", "a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ""),
	refused("host", "a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", ""),
	refused("host", "bytes beyond ASCII", "GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", ""),
	passes("empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", ""),
	passes("IPv6 and a port", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ""),
	passes("percent-encoded", "GET / HTTP/1.1\r\nHost: a%20b\r\n\r\n", ""),
	passes("spelling stays", "GET / HTTP/1.1\r\nhOsT: A.b:80\r\n\r\n", ""),
}

var fields = []requestCase{
	passes("order, spelling, spaces and doubles stay", get("x-B: 1", "X-a:2", "x-B:   3 ", "X-Empty:", "Cookie: a=b; c"), ""),
	passes("every token character in a name", get("!#$%&'*+-.^_`|~09azAZ: v"), ""),
	passes("bytes beyond ASCII and tabs in a value", get("X: a\tb\xff\x80"), ""),
	refused("field_name", "no colon", get("X"), ""),
	refused("field_name", "no name", get(": v"), ""),
	refused("field_name", "a space before the colon", get("X : v"), ""),
	refused("field_name", "a tab before the colon", get("X\t: v"), ""),
	refused("field_name", "a space in the name", get("X y: v"), ""),
	refused("field_name", "NUL in the name", get("X\x00: v"), ""),
	refused("field_name", "bytes beyond ASCII in the name", get("\xc3\xa4: v"), ""),
	refused("field_name", "a parenthesis in the name", get("X(y): v"), ""),
	refused("field_name", "CR in the name", get("X\r: v"), ""),
	refused("obs_fold", "a folded value", get("X: a", " b"), stricter),
	refused("obs_fold", "a value folded with a tab", get("X: a", "\tb"), stricter),
	refused("obs_fold", "a folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", ""),
	refused("field_value", "NUL in a value", get("X: a\x00b"), ""),
	refused("field_value", "DEL in a value", get("X: a\x7fb"), ""),
	refused("field_value", "a control byte in a value", get("X: a\x01b"), ""),
	refused("bare_cr", "CR in a value", get("X: a\rY: b"), ""),
	refused("bare_lf", "LF in a value", get("X: a\nY: b"), stricter),
	refused("bare_lf", "LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", stricter),
	refused("bare_cr", "CR CR LF", get("X: a\r"), ""),
	refusedWith(431, "too_many_fields", "too many", get(strings.Repeat("x: y\r\n", 600)+"z: 1"), "a bound of ours"),
}

var hops = []requestCase{
	passes("Connection and what it names", get("Connection: x-one, X-TWO", "X-One: 1", "x-two: 2", "x-three: 3"), get("x-three: 3")),
	passes("Connection twice", get("Connection: x-one", "X-One: 1", "connection: x-two", "x-two: 2"), get()),
	passes("Connection names what frames the message", get("Connection: host, content-length, te", "Content-Length: 0"), get("Content-Length: 0")),
	passes("empty options", get("Connection: , ,keep-alive,,"), get()),
	passes("the hop's own", get("Keep-Alive: 1", "Proxy-Connection: x", "Proxy-Authorization: x", "TE: gzip", "Upgrade: x"), get()),
	passes("TE: trailers goes on", get("TE: trailers"), ""),
	{name: "Connection: close", send: get("Connection: close"), status: 200, forwarded: get(), closed: true},
	{name: "Connection: Close among others", send: get("Connection: x, CLOSE"), status: 200, forwarded: get(), closed: true},
	{name: "HTTP/1.0", send: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", status: 200, forwarded: get(), closed: true},
	passes("HTTP/1.0 with keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", get()),
	{name: "HTTP/1.0 without a host", send: "GET / HTTP/1.0\r\n\r\n", status: 200, forwarded: "GET / HTTP/1.1\r\nhost: \r\n\r\n", closed: true},
	{name: "HTTP/1.0 with keep-alive and close", send: "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", status: 200, forwarded: get(), closed: true},
	refusedWith(417, "expect", "an expectation that nobody knows", get("Expect: magic"), ""),
	refusedWith(400, "too_many_options", "Connection names too much", get("Connection: "+strings.Repeat("x,", 200)), "a bound of ours"),
}
