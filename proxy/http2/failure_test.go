package http2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// peer is the other end of a connection, frame by frame.
type peer struct {
	t  *testing.T
	c  net.Conn
	fr *xhttp2.Framer
	bb bytes.Buffer
	en *hpack.Encoder
}

func newPeer(t *testing.T, c net.Conn) *peer {
	p := &peer{t: t, c: c, fr: xhttp2.NewFramer(c, c)}
	p.en = hpack.NewEncoder(&p.bb)
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
	return p
}

// dial opens a connection to the rig and exchanges settings.
func (r *rig) dial(t *testing.T, settings ...xhttp2.Setting) *peer {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := newPeer(t, c)
	io.WriteString(c, preface)
	p.fr.WriteSettings(settings...)
	return p
}

func (p *peer) headers(id uint32, end bool, pairs ...string) {
	p.bb.Reset()
	for i := 0; i < len(pairs); i += 2 {
		p.en.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.bb.Bytes(), EndHeaders: true, EndStream: end})
}

func (p *peer) get(id uint32, end bool, more ...string) {
	p.headers(id, end, append([]string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a.example"}, more...)...)
}

// until reads frames until f says that it has what it wants.
func (p *peer) until(f func(xhttp2.Frame) bool) {
	p.t.Helper()
	for {
		fr, err := p.fr.ReadFrame()
		if err != nil {
			p.t.Fatalf("waiting for a frame: %v", err)
		}
		if s, ok := fr.(*xhttp2.SettingsFrame); ok && !s.IsAck() {
			p.fr.WriteSettingsAck()
		}
		if f(fr) {
			return
		}
	}
}

func (p *peer) rst(id uint32) (code xhttp2.ErrCode) {
	p.t.Helper()
	p.until(func(f xhttp2.Frame) bool {
		r, ok := f.(*xhttp2.RSTStreamFrame)
		if ok && r.StreamID == id {
			code = r.ErrCode
			return true
		}
		return false
	})
	return code
}

func (p *peer) head(id uint32) (status string) {
	p.t.Helper()
	p.until(func(f xhttp2.Frame) bool {
		h, ok := f.(*xhttp2.MetaHeadersFrame)
		if ok && h.StreamID == id {
			status = h.PseudoValue("status")
			return true
		}
		return false
	})
	return status
}

// upstream starts a server that hands each connection, preface read and
// settings sent, to f.
func upstream(t *testing.T, f func(n int, p *peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				p := newPeer(t, c)
				io.ReadFull(c, make([]byte, len(preface)))
				p.fr.WriteSettings()
				f(n, p)
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// drainFrames reads until the other end closes.
func (p *peer) drainFrames() {
	for {
		if _, err := p.fr.ReadFrame(); err != nil {
			return
		}
	}
}

func isHead(f xhttp2.Frame) bool { _, ok := f.(*xhttp2.MetaHeadersFrame); return ok }

func TestFailuresBeforeTheHead(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	cases := []struct {
		name           string
		upstream       func(n int, p *peer) // nil: refuses connections
		flag, detail   string
		code           int
		grpc           codes.Code
		outcome        exchange.Failure
		requestTimeout time.Duration
	}{
		{name: "connection refused", flag: "UF", detail: "upstream_reset_before_response_started{connection_failure}", code: 503, grpc: codes.Unavailable, outcome: exchange.ConnectFailure},
		{name: "connection closed", upstream: func(_ int, p *peer) { p.until(isHead) },
			flag: "UC", detail: "upstream_reset_before_response_started{connection_termination}", code: 503, grpc: codes.Unavailable, outcome: exchange.Reset},
		{name: "stream reset", upstream: func(_ int, p *peer) {
			p.until(isHead)
			p.fr.WriteRSTStream(1, xhttp2.ErrCodeInternal)
			p.drainFrames()
		}, flag: "UR", detail: "upstream_reset_before_response_started{remote_reset}", code: 503, grpc: codes.Unavailable, outcome: exchange.Reset},
		{name: "stream refused", upstream: func(_ int, p *peer) {
			p.until(isHead)
			p.fr.WriteRSTStream(1, xhttp2.ErrCodeRefusedStream)
			p.drainFrames()
		}, flag: "UR", detail: "upstream_reset_before_response_started{remote_refused_stream_reset}", code: 503, grpc: codes.Unavailable, outcome: exchange.Refused},
		{name: "no status", upstream: func(_ int, p *peer) {
			p.until(isHead)
			p.headers(1, true, "x", "y")
			p.drainFrames()
		}, flag: "UPE", detail: "upstream_reset_before_response_started{protocol_error}", code: 502, grpc: codes.Unavailable, outcome: exchange.ProtocolFailure},
		{name: "deadline", upstream: func(_ int, p *peer) { p.drainFrames() }, requestTimeout: 20 * time.Millisecond,
			flag: "UT", detail: "upstream_response_timeout", code: 504, grpc: codes.DeadlineExceeded, outcome: exchange.Timeout},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			address := closed.Addr().String()
			if c.upstream != nil {
				address = upstream(t, c.upstream)
			}
			d := newDecider(address)
			d.target.Timeouts.Request = c.requestTimeout
			r := newRig(t, d)
			resp, err := r.client().Get(url("/"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			rec := r.record()
			if resp.StatusCode != c.code || rec.Code != uint32(c.code) || rec.Flags != c.flag || rec.Detail != c.detail || rec.Attempts != 1 {
				t.Errorf("answer %d, record %+v", resp.StatusCode, rec)
			}
			if o := <-d.failures; o.Failure != c.outcome {
				t.Errorf("outcome %+v, want failure %d", o, c.outcome)
			}
			r2 := newRig(t, d)
			_, err = testgrpc.NewTestServiceClient(r2.grpc()).EmptyCall(t.Context(), &testgrpc.Empty{})
			if got := status.Code(err); got != c.grpc {
				t.Errorf("gRPC status %v, want %v", got, c.grpc)
			}
			if rec := r2.record(); rec.Code != 200 || rec.GRPCStatus != uint32(c.grpc)+1 || rec.Flags != c.flag {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestStreamsThatGoAwayLeavesOutAreTriedAgain(t *testing.T) {
	address := upstream(t, func(n int, p *peer) {
		if n == 0 {
			p.until(func(f xhttp2.Frame) bool { d, ok := f.(*xhttp2.DataFrame); return ok && d.StreamEnded() })
			p.fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
			p.drainFrames()
			return
		}
		var body []byte
		p.until(func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok {
				body = append(body, d.Data()...)
			}
			return ok && d.StreamEnded()
		})
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, true, body)
		p.drainFrames()
	})
	d := newDecider(address)
	d.retries = 1
	r := newRig(t, d)
	resp, err := r.client().Post(url("/"), "text/plain", bytes.NewReader([]byte("the whole body")))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "the whole body" {
		t.Errorf("answer %q", body)
	}
	if rec := r.record(); rec.Attempts != 2 || rec.Flags != "" || rec.Code != 200 {
		t.Errorf("record %+v", rec)
	}
	if o := <-d.failures; o.Failure != exchange.Refused {
		t.Errorf("first outcome %+v", o)
	}
	if o := <-d.failures; o.Failure != exchange.Success || o.Status != 200 {
		t.Errorf("second outcome %+v", o)
	}
}

func TestDownstreamResetIsPassedOn(t *testing.T) {
	reset := make(chan xhttp2.ErrCode, 1)
	began := make(chan struct{})
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		close(began)
		reset <- p.rst(1)
		p.drainFrames()
	})
	r := newRig(t, newDecider(address))
	p := r.dial(t)
	p.get(1, false)
	<-began
	p.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)
	if code := <-reset; code != xhttp2.ErrCodeCancel {
		t.Errorf("upstream saw %v", code)
	}
	if rec := r.record(); rec.Flags != "DC" || rec.Code != 0 || rec.Detail != "downstream_remote_disconnect" {
		t.Errorf("record %+v", rec)
	}
}

func TestUpstreamDeathAfterTheHead(t *testing.T) {
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, false, []byte("some"))
	})
	r := newRig(t, newDecider(address))
	resp, err := r.client().Get(url("/"))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a broken answer looked whole")
	}
	if rec := r.record(); rec.Flags != "UC" || rec.Code != 200 || rec.Detail != "upstream_reset_after_response_started{connection_termination}" {
		t.Errorf("record %+v", rec)
	}
}

// TestAResetThatComesWithBytesIsSeen resets at once after the last bytes, so that
// both may come in one wake-up.
func TestAResetThatComesWithBytesIsSeen(t *testing.T) {
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.c.(*net.TCPConn).SetLinger(0)
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, false, []byte("some"))
	})
	r := newRig(t, newDecider(address))
	for range 100 {
		resp, err := r.client().Get(url("/"))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if rec := r.record(); err != nil && rec.Detail == "downstream_remote_disconnect" {
			t.Fatalf("the client gave up: %v, record %+v", err, rec)
		}
	}
}

func TestSlowReaderHoldsAWindowAndNoMore(t *testing.T) {
	var sent int
	stalled := make(chan int, 1)
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.headers(1, false, ":status", "200")
		window := defaultWindow
		for window >= maxFrame { // never reads SETTINGS, so the default window
			p.fr.WriteData(1, false, make([]byte, maxFrame))
			window -= maxFrame
			sent += maxFrame
		}
		// Credit comes only for what the reader takes.
		p.fr.WritePing(false, [8]byte{1})
		credit := 0
		p.until(func(f xhttp2.Frame) bool {
			if w, ok := f.(*xhttp2.WindowUpdateFrame); ok && w.StreamID == 1 {
				credit += int(w.Increment)
			}
			a, ok := f.(*xhttp2.PingFrame)
			return ok && a.IsAck()
		})
		stalled <- credit
		p.drainFrames()
	})
	r := newRig(t, newDecider(address))
	p := r.dial(t, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	p.get(1, true)
	got := 0
	p.until(func(f xhttp2.Frame) bool {
		if d, ok := f.(*xhttp2.DataFrame); ok {
			got += len(d.Data())
		}
		return got == 10
	})
	if credit := <-stalled; credit != 0 {
		t.Errorf("%d bytes credited that nobody took", credit)
	}
	p.fr.WriteWindowUpdate(1, 1<<20)
	p.until(func(f xhttp2.Frame) bool {
		if d, ok := f.(*xhttp2.DataFrame); ok {
			got += len(d.Data())
		}
		return got == sent
	})
}

func TestThousandStreamsAtOnce(t *testing.T) {
	var wait sync.WaitGroup
	release := make(chan struct{})
	wait.Add(1000)
	address := app(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wait.Done()
		<-release
		w.Write(body)
	})
	r := newRig(t, newDecider(address))
	c := r.client()
	go func() { wait.Wait(); close(release) }()
	var calls sync.WaitGroup
	for range 1000 {
		calls.Go(func() {
			resp, err := c.Post(url("/x"), "text/plain", bytes.NewReader([]byte("hello")))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	calls.Wait()
	r.stop()
	if n := r.handler.ended.Load(); n != 1000 {
		t.Errorf("%d exchanges", n)
	}
}

func TestDrainLetsStreamsFinish(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	address := app(t, func(w http.ResponseWriter, _ *http.Request) { close(began); <-release; io.WriteString(w, "done") })
	r := newRig(t, newDecider(address))
	p := r.dial(t)
	p.get(1, true)
	<-began
	r.server.Drain()
	away := 0
	p.until(func(f xhttp2.Frame) bool {
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			away++
			if want := []uint32{maxStreamID, 1}[away-1]; g.LastStreamID != want {
				t.Errorf("GOAWAY %d says stream %d, want %d", away, g.LastStreamID, want)
			}
		}
		if f, ok := f.(*xhttp2.PingFrame); ok && !f.IsAck() {
			p.fr.WritePing(true, f.Data)
		}
		return away == 2
	})
	close(release)
	if status := p.head(1); status != "200" {
		t.Errorf("status %s", status)
	}
	p.drainFrames() // the relay closes
	if rec := r.record(); rec.Code != 200 || rec.Flags != "" {
		t.Errorf("record %+v", rec)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	began := make(chan struct{})
	address := upstream(t, func(_ int, p *peer) { p.until(isHead); close(began); p.drainFrames() })
	r := newRig(t, newDecider(address))
	p := r.dial(t)
	p.get(1, true)
	<-began
	r.stop()
	if rec := r.record(); rec.Flags != "DC" || rec.Code != 0 {
		t.Errorf("record %+v", rec)
	}
}

// TestUpstreamEndsWithItsLastBytes: an upstream that ends its direction together
// with its last bytes, and then reads on, is not waited for.
func TestUpstreamEndsWithItsLastBytes(t *testing.T) {
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, false, []byte("some"))
		_ = p.c.(*net.TCPConn).CloseWrite()
		p.drainFrames()
	})
	r := newRig(t, newDecider(address))
	resp, err := r.client().Get(url("/"))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a broken answer looked whole")
	}
	if rec := r.record(); rec.Flags != "UC" || rec.Code != 200 {
		t.Errorf("record %+v", rec)
	}
}
