package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// echo answers with the request's body, once it has all of it: Go's HTTP/1 server
// gives the rest up when the answer begins.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // the caller compares
	_, _ = w.Write(body)
}

// TestBridgeTriesAgain: another attempt has the whole request.
func TestBridgeTriesAgain(t *testing.T) {
	for _, up := range []exchange.Protocol{exchange.HTTP2, exchange.HTTP1} {
		for _, what := range []string{"absent", "dies"} {
			t.Run(fmt.Sprintf("%s/http%d", what, up), func(t *testing.T) {
				c := newCrossing(t, up, false, echo)
				c.handler.second = c.handler.target
				sizes := []int{0, 10, 10 << 10}
				if c.handler.target = unused(t); what == "dies" {
					c.handler.target = brokenPeer(t, up, what)
				} else {
					sizes = append(sizes, 15<<10)
				}
				for _, size := range sizes {
					sent := bytes.Repeat([]byte("x"), size)
					if what == "dies" && up == exchange.HTTP2 && size > 4<<10 {
						continue // what has come after its head is not kept
					}
					req, _ := http.NewRequestWithContext(t.Context(), "POST", c.url+"/", bytes.NewReader(sent))
					resp, err := c.client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					rec := c.record()
					if err != nil || !bytes.Equal(got, sent) || resp.StatusCode != 200 {
						t.Errorf("%d of %d bytes with %d, %v; record %q %s", len(got), size, resp.StatusCode, err, rec.Flags, rec.Detail)
					}
					if rec.Attempts != 2 || rec.Flags != "" || rec.Upstream != c.handler.second {
						t.Errorf("record: attempts %d flags %q upstream %s", rec.Attempts, rec.Flags, rec.Upstream)
					}
				}
				c.client.CloseIdleConnections()
			})
		}
	}
}

// TestBridgeCarriesGRPC: its status is in trailers, or in the head of an answer
// without messages.
func TestBridgeCarriesGRPC(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if r.URL.Path == "/no.Such/Method" {
			w.Header().Set("Grpc-Status", "12")
			w.Header().Set("Content-Length", "0")
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		w.Header().Set("Grpc-Status", "5")
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		for path, status := range map[string]uint32{"/a.B/C": 5, "/no.Such/Method": 12} {
			resp, _, rec := c.do("POST", path, strings.NewReader("\x00\x00\x00\x00\x00"), func(r *http.Request) {
				r.Header.Set("Content-Type", "application/grpc")
				r.Header.Set("Te", "trailers")
			})
			got := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
			if got != fmt.Sprint(status) || rec.GRPCStatus != status+1 || rec.Protocol != "grpc" {
				t.Errorf("%s: status %q, record %s %d", path, got, rec.Protocol, rec.GRPCStatus)
			}
		}
		c.once(2)
	})
}

// TestBridgeUnderLoad: many at once, some of whose callers leave, are each
// recorded once and leave nothing behind.
func TestBridgeUnderLoad(t *testing.T) {
	crossings(t, echo, func(t *testing.T, c *crossing) {
		const callers, each = 8, 10
		var calling sync.WaitGroup
		for i := range callers {
			calling.Go(func() {
				for j := range each {
					sent := bytes.Repeat([]byte("y"), 7919*i*j)
					ctx, cancel := context.WithCancel(t.Context())
					req, _ := http.NewRequestWithContext(ctx, "POST", c.url+"/", bytes.NewReader(sent))
					resp, err := c.client.Do(req)
					if err != nil {
						t.Error(err)
						cancel()
						continue
					}
					if j == each-1 { // leaves in the middle, or at the end
						_, _ = io.ReadFull(resp.Body, make([]byte, len(sent)/2))
						cancel()
					} else if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
					}
					resp.Body.Close()
					cancel()
				}
			})
		}
		calling.Wait()
		for range callers * each {
			if rec := c.record(); rec.Code != 200 || rec.Flags != "" && rec.Flags != "DC" {
				t.Errorf("record %d %q %s", rec.Code, rec.Flags, rec.Detail)
			}
		}
		c.once(callers * each)
	})
}
