package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestRequestsGoThroughUnchanged(t *testing.T) {
	// The upstream answers with the request as it came over the wire.
	target := rawApp(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		var head strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", head.Len(), head.String())
	})
	r := newRig(t, target)
	targets := []string{
		"/", "/a/b?x=1&y=2", "/?", "/a%2Fb/%41", "/a//b/../c", "//double", "/[x]<y>\"|^`{}", "/?a=%zz;b;c==&&", "/caf\xc3\xa9?\xc3\xa9", "/a;b=c,d!$&'()*+", "*",
	}
	for _, path := range targets {
		method := "PURGE"
		if path == "*" {
			method = "OPTIONS"
		}
		got := r.raw("%s %s HTTP/1.1\r\nHost: Reviews.Example:9080\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nConnection: close\r\n\r\n", method, path)
		want(t, got, "200 OK", "X-Seen: yes", method+" "+path+" HTTP/1.1\r\n", "Host: Reviews.Example:9080\r\n", "X-Forwarded-For: 1.2.3.4\r\n", "Forwarded: for=x\r\n")
		if rec := r.record(); rec.Code != 200 || rec.Method != method || rec.Host != "Reviews.Example:9080" || rec.Attempts != 1 || rec.Flags != "" {
			t.Errorf("%s: record = %+v", path, rec)
		}
	}
	r.once(len(targets))
}

func TestBodiesAndTrailersGoThroughBothWays(t *testing.T) {
	target := app(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(201)
		fmt.Fprintf(w, "got %s, trailer %s, chunked %v", b, req.Trailer.Get("X-Check"), req.ContentLength < 0)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})
	r := newRig(t, target)
	got := r.raw("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\nConnection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Check: fine\r\n\r\n")
	want(t, got, "201 Created", "got hello world, trailer fine, chunked true", "X-Sum: 42", "X-Late: unannounced")
	rec := r.record()
	if rec.BytesIn < 11 || rec.BytesOut < 40 || rec.FirstByte <= 0 || rec.Duration < rec.FirstByte {
		t.Errorf("record = %+v, want bytes and times", rec)
	}
	got = r.raw("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
	want(t, got, "got abc, trailer , chunked false")
	r.record()
	r.once(2)
}

func TestAnInterimAnswerIsRelayedAndIsNotTheAnswer(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	}))
	got := r.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	want(t, got, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n", "HTTP/1.1 204 No Content\r\n")
	if rec := r.record(); rec.Code != 204 || rec.Flags != "" {
		t.Errorf("record = %+v, want a 204", rec)
	}
	if r.handler.answered != 1 {
		t.Errorf("Respond was called %d times, want once", r.handler.answered)
	}
	r.once(1)
}

func TestHEADHasALengthAndNoBody(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1234") }))
	got := r.raw("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	want(t, got, "200 OK", "Content-Length: 1234")
	if !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("there is a body: %q", got)
	}
	if rec := r.record(); rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
	r.once(1)
}

func TestTheSidecarsOwnReplyGoesOut(t *testing.T) {
	r := newRig(t, "127.0.0.1:1")
	r.handler.reply = &exchange.Reply{Status: 429, ContentType: "text/plain", Body: "slow down: 100 %\nplease\n", Headers: []exchange.Field{{Name: "Retry-After", Value: "1"}}}
	want(t, r.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "429 Too Many Requests", "Retry-After: 1", "slow down")
	if rec := r.record(); rec.Code != 429 || rec.Attempts != 0 || rec.BytesOut == 0 {
		t.Errorf("record = %+v, want 429 without an attempt", rec)
	}
	got := r.raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	want(t, got, "200 OK", "Grpc-Status: 8", "Grpc-Message: slow down: 100 %25%0Aplease")
	if rec := r.record(); rec.Code != 200 || rec.GRPCStatus != 9 || rec.Protocol != "grpc" {
		t.Errorf("record = %+v, want gRPC status 8", rec)
	}
	r.once(2)
}

// h2c returns a client that speaks HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestGRPCShapedRequestsKeepTheirTrailers(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if req.URL.Path == "/only" { // an answer without a body
			w.Header().Set("Grpc-Status", "5")
			return
		}
		fmt.Fprintf(w, "%s over %s, te %s", b, req.Proto, req.Header.Get("Te"))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "13") // gRPC servers do not announce it
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "broken")
	}))
	client := h2c(t)
	call := func(path string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.address+path, strings.NewReader("message"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	resp, body := call("/reviews.Reviews/Get")
	if body != "message over HTTP/2.0, te trailers" || resp.Trailer.Get("Grpc-Status") != "13" || resp.Trailer.Get("Grpc-Message") != "broken" {
		t.Errorf("body %q, trailers %v", body, resp.Trailer)
	}
	if rec := r.record(); rec.GRPCStatus != 14 || rec.Protocol != "grpc" || rec.HTTPVersion != "HTTP/2.0" || rec.Code != 200 {
		t.Errorf("record = %+v, want gRPC status 13", rec)
	}
	if resp, _ = call("/only"); resp.Header.Get("Grpc-Status") != "5" {
		t.Errorf("head %v, want status 5", resp.Header)
	}
	if rec := r.record(); rec.GRPCStatus != 6 {
		t.Errorf("record = %+v, want gRPC status 5", rec)
	}
	client.CloseIdleConnections()
	r.once(2)
}

func TestAnUpstreamThatRefusesIsUF(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	r := newRig(t, l.Addr().String())
	want(t, r.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "503 Service Unavailable", "connection_failure")
	if rec := r.record(); rec.Code != 503 || rec.Flags != vocab.FlagUpstreamConnect {
		t.Errorf("record = %+v, want 503 UF", rec)
	}
	want(t, r.raw("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n"), "503 Service Unavailable")
	if rec := r.record(); rec.Code != 503 || rec.Flags != vocab.FlagUpstreamConnect || rec.Protocol != "tcp" {
		t.Errorf("record = %+v, want 503 UF of a tunnel", rec)
	}
	r.once(2)
}

func TestAnUpstreamThatAnswersNonsenseIsUPE(t *testing.T) {
	r := newRig(t, rawApp(t, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "SSH-2.0-OpenSSH\r\n\r\n")
	}))
	want(t, r.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "502 Bad Gateway")
	if rec := r.record(); rec.Flags != vocab.FlagUpstreamProtocol {
		t.Errorf("record = %+v, want UPE", rec)
	}
	r.once(1)
}

func TestAnUpstreamThatDiesIsUC(t *testing.T) {
	for answer, connection := range map[string]string{"": "close", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it": "keep-alive"} {
		r := newRig(t, rawApp(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			io.WriteString(c, answer)
		}))
		got := r.raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: %s\r\n\r\n", connection)
		if answer == "" {
			want(t, got, "503 Service Unavailable")
		} else if !strings.HasSuffix(got, "half of it") { // the length is not met: the caller sees the break
			t.Errorf("got %q", got)
		}
		if rec := r.record(); rec.Flags != vocab.FlagUpstreamTermination {
			t.Errorf("after %q: record = %+v, want UC", answer, rec)
		}
		r.once(1)
	}
}

func TestACallerThatLeavesIsDC(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	r := newRig(t, app(t, func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-req.Context().Done() // the sidecar passes it on
		close(gone)
	}))
	c, _ := r.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	c.Close()
	<-gone
	if rec := r.record(); rec.Code != 0 || rec.Flags != vocab.FlagDownstreamTermination {
		t.Errorf("record = %+v, want DC without a code", rec)
	}
	r.once(1)
}
