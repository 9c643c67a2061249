package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// FuzzRequestHead: a head's beginning is either incomplete or refused with the
// same status as the whole, and what is passed on reads the same again.
func FuzzRequestHead(f *testing.F) {
	for _, group := range [][]requestCase{requestLines, hosts, fields, hops, lengths, codings} {
		for i := range group {
			if len(group[i].send) < 1000 {
				f.Add([]byte(group[i].send), uint16(i*7))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		var whole, part message
		err := whole.parseRequest(b)
		early := part.parseRequest(b[:min(int(cut), len(b))])
		var m, e *malformed
		if errors.As(early, &e) && (!errors.As(err, &m) || m.status != e.status) {
			t.Fatalf("the beginning is %v, the whole %v", early, err)
		}
		if err != nil {
			return
		}
		whole.raw = b
		var again message
		again.raw = whole.appendRequest(nil, "")
		if string(whole.method.of(b)) == "CONNECT" || whole.hosts == 0 {
			return // is not passed on like this
		}
		if err := again.parseRequest(again.raw); err != nil || again.size != len(again.raw) {
			t.Fatalf("%q is passed on as %q: %v", b, again.raw, err)
		}
		if again.length != whole.length || again.chunked != whole.chunked || again.connections != 0 {
			t.Fatalf("%q is framed anew as %q", b, again.raw)
		}
	})
}

// FuzzResponseHead is the same for answers.
func FuzzResponseHead(f *testing.F) {
	for _, group := range [][]responseCase{relayedAnswers, interimAnswers, chunkedAnswers, nonsenseAnswers} {
		for i := range group {
			if len(group[i].answer) < 1000 {
				f.Add([]byte(group[i].answer), uint16(i*7))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		var whole, part message
		err := whole.parseResponse(b)
		early := part.parseResponse(b[:min(int(cut), len(b))])
		var m, e *malformed
		if errors.As(early, &e) && !errors.As(err, &m) {
			t.Fatalf("the beginning is %v, the whole %v", early, err)
		}
		if err != nil || whole.checkResponse(b) != nil {
			return
		}
		whole.raw = b
		var again message
		again.raw = append(whole.appendFields(whole.appendStatus(nil)), "\r\n"...)
		if err := again.parseResponse(again.raw); err != nil || again.size != len(again.raw) {
			t.Fatalf("%q is passed on as %q: %v", b, again.raw, err)
		}
		if again.length != whole.length || again.chunked != whole.chunked || again.status != whole.status {
			t.Fatalf("%q is framed anew as %q", b, again.raw)
		}
	})
}

// chunked runs a body through in pieces that cuts gives the sizes of.
func chunked(b, cuts []byte) (n int, data []byte, done bool, err error) {
	c := chunks{onData: func(p []byte) { data = append(data, p...) }}
	for i := 0; n < len(b) && !done && err == nil; i++ {
		size := len(b) - n
		if i < len(cuts) {
			size = min(size, int(cuts[i])+1)
		}
		var k int
		k, done, err = c.next(b[n : n+size])
		if n += k; !done && err == nil && k != size {
			panic("bytes are left without an end")
		}
	}
	return n, data, done, err
}

// FuzzChunks: the same body in any pieces is the same body.
func FuzzChunks(f *testing.F) {
	for i := range chunkedBodies {
		if b := chunkedBodies[i].send; len(b) < 1000 {
			f.Add([]byte(b[len(post("")):]), []byte{byte(i), 0, 3})
		}
	}
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		n, data, done, err := chunked(b, nil)
		n2, data2, done2, err2 := chunked(b, cuts)
		if n != n2 || !bytes.Equal(data, data2) || done != done2 || !errors.Is(err, err2) {
			t.Errorf("%d %q %v %v at once, %d %q %v %v in pieces", n, data, done, err, n2, data2, done2, err2)
		}
	})
}

// FuzzRelay sends arbitrary bytes from a downstream and from an upstream. The
// relay must end, with every exchange ended once and nothing held.
func FuzzRelay(f *testing.F) {
	for _, group := range [][]requestCase{requestLines, hops, lengths, codings, chunkedBodies} {
		for i := range group {
			if len(group[i].send) < 1000 {
				f.Add([]byte(group[i].send), []byte(okAnswer), uint8(i))
			}
		}
	}
	for _, group := range [][]responseCase{relayedAnswers, interimAnswers, chunkedAnswers} {
		for i := range group {
			if len(group[i].answer) < 1000 {
				f.Add([]byte(get()+post("5\r\nhello\r\n0\r\n\r\n")), []byte(group[i].answer), uint8(i))
			}
		}
	}
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly"), []byte("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nlate"), uint8(9))
	f.Fuzz(relayOnce)
}

func relayOnce(t *testing.T, down, up []byte, cut uint8) {
	began, ended := 0, 0
	d := &counter{began: &began, ended: &ended}
	gauges := &exchange.Gauges{}
	s := NewServer(Options{Handler: d, Gauges: gauges, MaxHeaderBytes: 32 << 10,
		Dial: func(context.Context, exchange.Target) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go play(theirs, up, cut)
			return ours, nil
		}})
	ours, theirs := net.Pipe()
	played := make(chan struct{})
	go func() { defer close(played); play(theirs, down, cut) }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.Serve(ctx, netio.New(ours, nil), ConnFacts{Downstream: "fuzz:1"})
	s.Wait()
	if ctx.Err() != nil {
		t.Error("did not end")
	}
	<-played
	s.Close()
	if began != ended {
		t.Errorf("%d began, %d ended", began, ended)
	}
	inFlight, idle := s.Saturation()
	if n := inFlight | gauges.PoolOpen.Load() | idle | gauges.Pending.Load(); n != 0 {
		t.Errorf("gauges are not zero: %d", n)
	}
}

// counter is a handler for one connection that only counts.
type counter struct {
	began, ended *int
	retries      int
}

func (c *counter) Begin(context.Context, *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	*c.began++
	return exchange.Target{Address: "up:1"}, nil
}
func (c *counter) Waits() bool { return false }
func (c *counter) Retry(*exchange.Exchange, exchange.Outcome) (exchange.Target, bool) {
	c.retries++
	return exchange.Target{Address: "up:1"}, c.retries <= 2
}
func (c *counter) Respond(x *exchange.Exchange) { x.Response.Set("x-seen", "yes") }
func (c *counter) End(*exchange.Exchange)       { *c.ended++ }

// play writes b in two pieces, gives the other side a moment to answer, and
// closes.
func play(c net.Conn, b []byte, cut uint8) {
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(io.Discard, c) }()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	at := min(int(cut), len(b))
	if _, err := c.Write(b[:at]); err == nil {
		_, _ = c.Write(b[at:])
	}
	select {
	case <-read:
	case <-time.After(5 * time.Millisecond):
	}
	c.Close()
	<-read
}
