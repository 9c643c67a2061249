package http2

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// refusedOnce answers the first stream whole in one head with the gRPC status, and
// echoes what comes on the second, if one is expected.
func refusedOnce(status string, second bool) func(int, *peer) {
	return func(_ int, p *peer) {
		body := map[uint32][]byte{}
		ended := uint32(0)
		whole := func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok {
				body[d.StreamID] = append(body[d.StreamID], d.Data()...)
				ended = d.StreamID
			}
			return ok && d.StreamEnded()
		}
		p.until(whole)
		p.headers(ended, true, ":status", "200", "content-type", "application/grpc", "grpc-status", status)
		if !second {
			p.drainFrames()
			return
		}
		p.until(whole)
		p.headers(ended, false, ":status", "200", "content-type", "application/grpc")
		p.fr.WriteData(ended, false, body[ended])
		p.headers(ended, true, "grpc-status", "0")
		p.drainFrames()
	}
}

func call(t *testing.T, r *rig) (status, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url("/a.B/c"), bytes.NewReader([]byte("message")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/grpc")
	resp, err := r.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get("grpc-status") + resp.Trailer.Get("grpc-status"), string(b)
}

func TestAnAnswerThatThePolicyNamesIsGivenUp(t *testing.T) {
	d := newDecider(upstream(t, refusedOnce("14", true)))
	d.retries = 1
	r := newRig(t, d)
	if status, body := call(t, r); status != "0" || body != "message" {
		t.Errorf("status %q, body %q", status, body)
	}
	if rec := r.record(); rec.Attempts != 2 || rec.GRPCStatus != 1 || rec.Flags != "" {
		t.Errorf("record %+v", rec)
	}
	if first, second := <-d.failures, <-d.failures; first.GRPC != 15 || second.GRPC != 1 {
		t.Errorf("the endpoint was told %+v, then %+v", first, second)
	}
}

// An answer of HTTP's own is given up by its status, before its body has come.
func TestAnAnswerThatThePolicyNamesByStatusIsGivenUp(t *testing.T) {
	d := newDecider(upstream(t, func(_ int, p *peer) {
		ask := func() uint32 {
			var stream uint32
			p.until(func(f xhttp2.Frame) bool {
				_, ok := f.(*xhttp2.MetaHeadersFrame)
				stream = f.Header().StreamID
				return ok
			})
			return stream
		}
		first := ask()
		p.headers(first, false, ":status", "503")
		second := ask()
		p.headers(second, false, ":status", "200")
		p.fr.WriteData(second, true, []byte("well"))
		p.drainFrames()
	}))
	d.retries = 1
	r := newRig(t, d)
	resp, err := r.client().Get(url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "well" || resp.StatusCode != 200 {
		t.Errorf("%d %q, %v", resp.StatusCode, b, err)
	}
	if rec := r.record(); rec.Attempts != 2 || rec.Code != 200 || rec.Flags != "" {
		t.Errorf("record %+v", rec)
	}
}

func TestAnAnswerThatThePolicyDoesNotNameGoesDown(t *testing.T) {
	d := newDecider(upstream(t, refusedOnce("5", false)))
	r := newRig(t, d)
	if status, _ := call(t, r); status != "5" {
		t.Errorf("status %q", status)
	}
	if rec := r.record(); rec.Attempts != 1 || rec.GRPCStatus != 6 {
		t.Errorf("record %+v", rec)
	}
}
