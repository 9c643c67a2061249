package netio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pair is both ends of a connection on loopback.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	for _, c := range []net.Conn{ours, theirs} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a hang fails as an error
	}
	return New(ours, nil), theirs.(*net.TCPConn)
}

// A question that the socket does not take at once is still asked whole.
func TestAskWritesWhatTheSocketDoesNotTakeAtOnce(t *testing.T) {
	c, peer := pair(t)
	question := bytes.Repeat([]byte("question"), 1<<20)
	heard := make(chan []byte, 1)
	go func() {
		got := make([]byte, len(question))
		_, _ = io.ReadFull(peer, got) // a short one differs
		_, _ = peer.Write([]byte("answer"))
		heard <- got
	}()
	var b Buffer
	defer b.Free()
	written, err := c.Ask(question, &b)
	if err != nil || written != len(question) || string(b.Bytes()) != "answer" {
		t.Errorf("wrote %d of %d, got %q: %v", written, len(question), b.Bytes(), err)
	}
	if !bytes.Equal(<-heard, question) {
		t.Error("the peer heard another question")
	}
}

func TestAskAPeerThatHasClosed(t *testing.T) {
	c, peer := pair(t)
	peer.Close()
	var b Buffer
	defer b.Free()
	if _, err := c.Ask([]byte("question"), &b); err == nil {
		t.Errorf("no error, got %q", b.Bytes())
	}
	if c.Peer() == Open {
		t.Error("the peer looks open")
	}
}

// An answer that waits already is read, whatever becomes of the question.
func TestAskReadsTheAnswerOfAPeerThatStopsListening(t *testing.T) {
	c, peer := pair(t)
	var b Buffer
	defer b.Free()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = peer.Read(make([]byte, 8))
		_, _ = peer.Write([]byte("answer"))
		_ = peer.CloseWrite()
	}()
	if _, err := c.Ask([]byte("question"), &b); err != nil || string(b.Bytes()) != "answer" {
		t.Errorf("got %q: %v", b.Bytes(), err)
	}
	<-answered
	b.Skip(b.Len())
	if err := c.Fill(&b); !errors.Is(err, io.EOF) {
		t.Errorf("then %v, want EOF", err)
	}
}

func TestADeadlineEndsAsk(t *testing.T) {
	c, _ := pair(t)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	var b Buffer
	defer b.Free()
	written, err := c.Ask([]byte("question"), &b)
	if written != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || b.Len() != 0 {
		t.Errorf("wrote %d, got %q: %v", written, b.Bytes(), err)
	}
}

// While nothing is there to read, a buffer holds no memory.
func TestAnEmptyBufferHoldsNothingWhileItWaits(t *testing.T) {
	c, peer := pair(t)
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	var b Buffer
	if err := c.Fill(&b); !errors.Is(err, os.ErrDeadlineExceeded) || b.mem != nil {
		t.Errorf("%v, holds %d bytes", err, len(b.mem))
	}
	_ = c.SetReadDeadline(time.Time{})
	_, _ = peer.Write([]byte("x"))
	if err := c.Fill(&b); err != nil || string(b.Bytes()) != "x" {
		t.Errorf("got %q: %v", b.Bytes(), err)
	}
	b.Free()
}
