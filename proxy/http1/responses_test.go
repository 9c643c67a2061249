package http1

import (
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
)

// responseCase is what an upstream answers to one request.
type responseCase struct {
	name string
	// ask is the request; empty is a GET.
	ask    string
	answer string
	// ends: the upstream closes its connection behind the answer.
	ends bool
	// want is what the downstream gets, byte for byte; empty: the answer as it
	// is. With a flag it is what comes before the break, or nothing if the
	// sidecar answers with status.
	want   string
	status int
	flag   string
	// closed: the downstream connection ends. fresh: the upstream one is not
	// used again.
	closed, fresh bool
	// excess: bytes come that belong to no answer. That is seen if they are
	// there when the answer ends or the connection is used next; what comes even
	// later is taken for the beginning of the next answer.
	excess bool
	// differs says why a client of net/http decides otherwise; empty: it must
	// decide the same.
	differs string
}

func relayed(name, answer, want string) responseCase {
	return responseCase{name: name, answer: answer, want: want}
}

// toHead is relayed to a HEAD, get10 to an HTTP/1.0 client that keeps alive.
func toHead(name, answer, want string) responseCase {
	return responseCase{name: name, ask: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer: answer, want: want}
}

func to10(name, answer, want string, closed bool) responseCase {
	return responseCase{name: name, ask: "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", answer: answer, want: want, closed: closed}
}

// nonsense is answered with 502.
func nonsense(name, answer, differs string) responseCase {
	return responseCase{name: name, answer: answer, status: 502, flag: vocab.FlagUpstreamProtocol, fresh: true, differs: differs}
}

// breaks gets as far as want.
func breaks(flag, name, answer, want string, ends bool) responseCase {
	return responseCase{name: name, answer: answer, want: want, flag: flag, ends: ends, closed: true, fresh: true}
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

var relayedAnswers = []responseCase{
	relayed("a length", okAnswer, ""),
	relayed("order, spelling, spaces and doubles stay", "HTTP/1.1 200 OK\r\nx-B: 1\r\nSet-Cookie: a\r\nset-cookie:  b \r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", ""),
	relayed("bytes beyond ASCII", "HTTP/1.1 200 \xc3\xa4\r\nX: \xff\r\nContent-Length: 0\r\n\r\n", ""),
	relayed("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", ""),
	relayed("no space for a reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ""),
	relayed("a status of its own", "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", ""),
	relayed("the hop's own", "HTTP/1.1 200 OK\r\nConnection: x-one\r\nX-One: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
	relayed("an expectation, which means nothing here", "HTTP/1.1 200 OK\r\nExpect: x\r\nContent-Length: 0\r\n\r\n", ""),
	{name: "Connection: close", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", want: okAnswer, fresh: true},
	{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", want: okAnswer, fresh: true},
	relayed("HTTP/1.0 with keep-alive", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", okAnswer),
	relayed("204", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", ""),
	relayed("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
	relayed("204 with a coding", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
	{name: "204 with a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nno", want: "HTTP/1.1 204 No Content\r\n\r\n", fresh: true, excess: true},
	relayed("304 with the length of another", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: \"a\"\r\n\r\n", ""),
	toHead("with a length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ""),
	toHead("with a coding", chunkedHead, ""),
	toHead("without either", "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", ""),
	{name: "HEAD with a body", ask: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", answer: okAnswer, want: strings.TrimSuffix(okAnswer, "ok"), fresh: true, excess: true},
	{name: "bytes behind the answer", answer: okAnswer + "HTTP/1.1 200 evil\r\n\r\n", want: okAnswer, fresh: true, excess: true},
	{
		name: "until the close", answer: "HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it", ends: true,
		want: "HTTP/1.1 200 OK\r\nX: 1\r\nconnection: close\r\n\r\nall of it", closed: true, fresh: true,
	},
	{name: "until the close, empty", answer: "HTTP/1.1 200 OK\r\n\r\n", ends: true, want: "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", closed: true, fresh: true},
}

var interimAnswers = []responseCase{
	relayed("100", "HTTP/1.1 100 Continue\r\n\r\n"+okAnswer, ""),
	relayed("103 with fields", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okAnswer, ""),
	relayed("several", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 199 x\r\n\r\n"+okAnswer, ""),
	relayed("with a length", "HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n"+okAnswer, "HTTP/1.1 103 x\r\n\r\n"+okAnswer),
	to10("not for HTTP/1.0", "HTTP/1.1 100 Continue\r\n\r\n"+okAnswer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: keep-alive\r\n\r\nok", false),
	nonsense("101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "the caller is not handed a tunnel that it did not ask for"),
	{name: "without end", answer: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", maxInterim+1), want: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", maxInterim), status: 502, flag: vocab.FlagUpstreamProtocol, fresh: true},
}

var chunkedAnswers = []responseCase{
	relayed("chunks", chunkedHead+"5\r\nhello\r\n0\r\n\r\n", ""),
	relayed("extensions and trailers", chunkedHead+"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n", ""),
	{name: "bytes behind it", answer: chunkedHead + "0\r\n\r\nx", want: chunkedHead + "0\r\n\r\n", fresh: true, excess: true},
	{name: "of HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: chunkedHead + "0\r\n\r\n", fresh: true},
	to10("to HTTP/1.0", chunkedHead+"5\r\nhello\r\n0\r\nX: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", true),
	to10("to HTTP/1.0, many", chunkedHead+strings.Repeat("5;x\r\nhello\r\n", 9000)+"0\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"+strings.Repeat("hello", 9000), true),
	to10("to HTTP/1.0 without a body", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nconnection: keep-alive\r\n\r\n", false),
	breaks(vocab.FlagUpstreamProtocol, "a size that is none", chunkedHead+"zz\r\n", chunkedHead[:len(chunkedHead)-2]+"\r\n", false),
	breaks(vocab.FlagUpstreamProtocol, "more than the size", chunkedHead+"4\r\nhello\r\n0\r\n\r\n", chunkedHead+"4\r\nhell", false),
	breaks(vocab.FlagUpstreamProtocol, "LF alone", chunkedHead+"5\nhello\r\n0\r\n\r\n", chunkedHead+"5", false),
	breaks(vocab.FlagUpstreamTermination, "an end in a chunk", chunkedHead+"5\r\nhel", chunkedHead+"5\r\nhel", true),
	breaks(vocab.FlagUpstreamTermination, "an end before the last chunk", chunkedHead+"5\r\nhello\r\n", chunkedHead+"5\r\nhello\r\n", true),
	breaks(vocab.FlagUpstreamTermination, "an end in the trailers", chunkedHead+"0\r\nX: 1\r\n", chunkedHead+"0\r\nX: 1\r\n", true),
	breaks(vocab.FlagUpstreamTermination, "an end in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", true),
}

const (
	strictAnswer = "two readers could see two answers: refused on purpose"
	laxNetHTTP   = "not in the grammar: refused on purpose"
)

var nonsenseAnswers = []responseCase{
	nonsense("another protocol", "SSH-2.0-OpenSSH\r\n\r\n", ""),
	nonsense("no version", "200 OK\r\n\r\n", ""),
	nonsense("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", laxNetHTTP),
	nonsense("two digits", "HTTP/1.1 20 OK\r\n\r\n", ""),
	nonsense("four digits", "HTTP/1.1 2000 OK\r\n\r\n", ""),
	nonsense("a sign", "HTTP/1.1 +20 OK\r\n\r\n", laxNetHTTP),
	nonsense("below 100", "HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", laxNetHTTP),
	nonsense("a control byte in the reason", "HTTP/1.1 200 \x01\r\nContent-Length: 0\r\n\r\n", laxNetHTTP),
	nonsense("a bare LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", strictAnswer),
	nonsense("a bare LF behind a field", "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", strictAnswer),
	nonsense("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", strictAnswer),
	nonsense("a space before the colon", "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n", strictAnswer),
	nonsense("a field without a colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n", ""),
	nonsense("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n", ""),
	nonsense("CR in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n", ""),
	nonsense("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", ""),
	nonsense("twice the same length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", strictAnswer),
	nonsense("a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ""),
	nonsense("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ""),
	nonsense("a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", strictAnswer),
	nonsense("a coding that is not chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ""),
	nonsense("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
	nonsense("too many fields", "HTTP/1.1 200 OK\r\n"+strings.Repeat("x: y\r\n", 600)+"\r\n", "a bound of ours"),
	nonsense("too large", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 70<<10)+"\r\n\r\n", "a bound of ours"),
	{name: "nothing", ends: true, status: 503, flag: vocab.FlagUpstreamTermination, fresh: true},
	{name: "a half head", answer: "HTTP/1.1 200 OK\r\nX", ends: true, status: 503, flag: vocab.FlagUpstreamTermination, fresh: true},
}
