package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// crossing is a client, an engine and an application, the last two of which
// speak different versions of HTTP.
type crossing struct {
	*rig
	client *http.Client
	url    string
	major  int // of the client's version
}

// crossings runs a test over the bridge in both directions, the application's
// side plain and over TLS.
func crossings(t *testing.T, h http.HandlerFunc, test func(t *testing.T, c *crossing)) {
	for _, up := range []exchange.Protocol{exchange.HTTP2, exchange.HTTP1} {
		for _, secure := range []bool{false, true} {
			name := fmt.Sprintf("http%d to http%d", 3-int(up), up)
			if secure {
				name += " over TLS"
			}
			t.Run(name, func(t *testing.T) { test(t, newCrossing(t, up, secure, h)) })
		}
	}
}

func newCrossing(t *testing.T, up exchange.Protocol, secure bool, h http.HandlerFunc) *crossing {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: patience}
	major := 1
	if up == exchange.HTTP1 {
		major = 2
		s.Config.Protocols.SetHTTP1(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		s.EnableHTTP2 = secure
		s.Config.Protocols.SetHTTP2(secure)
		s.Config.Protocols.SetUnencryptedHTTP2(!secure)
		transport.Protocols.SetHTTP1(true)
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	t.Cleanup(transport.CloseIdleConnections)
	r := newRig(t, s.Listener.Addr().String())
	r.handler.protocol = up
	if secure {
		pool := x509.NewCertPool()
		pool.AddCert(s.Certificate())
		r.handler.tls = &tls.Config{RootCAs: pool, ServerName: "example.com"}
	}
	return &crossing{rig: r, client: &http.Client{Transport: transport, Timeout: patience}, url: "http://" + r.address, major: major}
}

// do sends a request, reads its answer and checks that the one record of it
// tells the same.
func (c *crossing) do(method, path string, body io.Reader, with func(*http.Request)) (*http.Response, []byte, record.Record) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if with != nil {
		with(req)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Error(err)
	}
	rec := c.record()
	if version := fmt.Sprintf("HTTP/%d.%d", c.major, 2-c.major); rec.HTTPVersion != version {
		c.t.Errorf("version %s, want %s", rec.HTTPVersion, version)
	}
	if rec.Method != method || rec.Path != path || int(rec.Code) != resp.StatusCode || rec.Flags != "" || rec.Attempts != 1 {
		c.t.Errorf("record %s %s %d flags %q (%s) attempts %d", rec.Method, rec.Path, rec.Code, rec.Flags, rec.Detail, rec.Attempts)
	}
	if resp.ProtoMajor != c.major || resp.Header.Get("X-Seen") != "yes" {
		c.t.Errorf("answer in %s with %v", resp.Proto, resp.Header)
	}
	return resp, got, rec
}

// once is the rig's, without the wait for the client's kept connections.
func (c *crossing) once(n int) {
	c.t.Helper()
	c.client.CloseIdleConnections()
	c.rig.once(n)
}

func TestBridgeCarriesBodies(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Version", r.Proto)
		if r.Header.Get("X-Flush") != "" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = w.Write(body)
	}
	crossings(t, echo, func(t *testing.T, c *crossing) {
		n := 0
		for _, size := range []int{0, 10, 1 << 20} {
			for _, length := range []bool{true, false} {
				sent := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
				resp, got, rec := c.do("POST", "/echo", bytes.NewReader(sent), func(r *http.Request) {
					if !length {
						r.ContentLength, r.Body = -1, io.NopCloser(bytes.NewReader(sent))
						r.Header.Set("X-Flush", "yes")
					}
				})
				n++
				if !bytes.Equal(got, sent) {
					t.Errorf("%d bytes came back, want %d", len(got), size)
				}
				if want := fmt.Sprintf("HTTP/%d", 3-c.major); !strings.HasPrefix(resp.Header.Get("X-Version"), want) {
					t.Errorf("the application saw %q, want %s", resp.Header.Get("X-Version"), want)
				}
				if rec.BytesIn < uint64(size) || rec.BytesOut < uint64(size) || rec.BytesIn > uint64(size+size/100+2000) {
					t.Errorf("%d bytes in and %d out of %d", rec.BytesIn, rec.BytesOut, size)
				}
			}
		}
		c.once(n)
	})
}

func TestBridgeCarriesTrailers(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("X-Sum", r.Trailer.Get("X-Last"))
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		resp, got, _ := c.do("POST", "/t", io.MultiReader(strings.NewReader("some")), func(r *http.Request) {
			r.Trailer = http.Header{"X-Last": {"one"}}
		})
		if string(got) != "body" || resp.Trailer.Get("X-Sum") != "one" {
			t.Errorf("body %q trailers %v", got, resp.Trailer)
		}
		c.once(1)
	})
}

func TestBridgeCarriesAnswersWithoutBody(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			w.Header().Set("Content-Length", "7")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.WriteHeader(http.StatusNotModified)
		}
		w.Header().Add("X-Cookies", fmt.Sprint(len(r.Cookies())))
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		for _, q := range []struct {
			method, path string
			status       int
			length       int64
		}{{"HEAD", "/head", 200, 7}, {"GET", "/none", 204, 0}, {"GET", "/same", 304, 0}, {"GET", "/empty", 200, 0}, {"DELETE", "/empty", 200, 0}} {
			resp, got, _ := c.do(q.method, q.path, nil, func(r *http.Request) {
				r.AddCookie(&http.Cookie{Name: "a", Value: "1"})
				r.AddCookie(&http.Cookie{Name: "b", Value: "2"})
			})
			if resp.StatusCode != q.status || len(got) != 0 || q.length > 0 && resp.ContentLength != q.length {
				t.Errorf("%s %s: %d, %d bytes, length %d", q.method, q.path, resp.StatusCode, len(got), resp.ContentLength)
			}
			if n := resp.Header.Get("X-Cookies"); q.path == "/empty" && n != "2" {
				t.Errorf("the application saw %s cookies", n)
			}
		}
		c.once(5)
	})
}

func TestBridgeCarriesInterimAnswers(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hints" { // after other interim answers servers send no 100
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		var hints, continues atomic.Int32
		trace := &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints.Add(1)
				}
				return nil
			},
			Got100Continue: func() { continues.Add(1) },
		}
		for _, path := range []string{"/hints", "/expect"} {
			_, got, _ := c.do("PUT", path, strings.NewReader("twelve bytes"), func(r *http.Request) {
				if path == "/expect" {
					r.Header.Set("Expect", "100-continue")
				}
				*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
			})
			if string(got) != "12" {
				t.Errorf("body %q", got)
			}
		}
		if hints.Load() != 1 || continues.Load() != 1 {
			t.Errorf("%d early hints, %d times 100", hints.Load(), continues.Load())
		}
		c.once(2)
	})
}

// TestBridgeServesHTTP10: its answer ends with the connection, without chunks.
func TestBridgeServesHTTP10(t *testing.T) {
	c := newCrossing(t, exchange.HTTP2, false, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		fmt.Fprintf(w, "%s in %s", r.URL.Path, r.Proto)
	})
	got := c.raw("GET /old HTTP/1.0\r\n\r\n")
	want(t, got, "HTTP/1.1 200 OK\r\n", "connection: close", "\r\n\r\n/old in HTTP/2.0")
	if strings.Contains(strings.ToLower(got), "chunked") {
		t.Errorf("chunks in %q", got)
	}
	if rec := c.record(); rec.HTTPVersion != "HTTP/1.0" || rec.Code != 200 {
		t.Errorf("record %s %d", rec.HTTPVersion, rec.Code)
	}
	c.once(1)
}

// TestBridgeDoesNotSwitchProtocols: an HTTP/2 application is a server that knows
// no Upgrade.
func TestBridgeDoesNotSwitchProtocols(t *testing.T) {
	c := newCrossing(t, exchange.HTTP2, false, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "upgrade %q", r.Header.Get("Upgrade"))
	})
	conn, in := c.dial()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || string(body) != `upgrade ""` {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	conn.Close()
	c.record()
	c.once(1)
}
