package engine

import (
	"errors"
	"net"
	"sync"
	"time"
)

// sniffWithin is how long a connection may take to its first bytes.
const sniffWithin = 30 * time.Second

// split divides the connections of one listener by their first bytes into
// HTTP/2 with prior knowledge and everything else. net/http can do that by
// itself, but waits for 14 bytes before it judges: a shorter malformed request
// would get no answer.
type split struct {
	listener      net.Listener
	protocolError func(reason string)
	http1, http2  *half
	closed        chan struct{}
	wg            sync.WaitGroup

	mu       sync.Mutex // guards the field below
	sniffing map[net.Conn]struct{}
}

// half is the listener of one of the two servers.
type half struct {
	net.Listener
	conns  chan net.Conn
	closed <-chan struct{}
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the listener itself is the split's.
func (h *half) Close() error { return nil }

func newSplit(l net.Listener, protocolError func(string)) *split {
	s := &split{listener: l, protocolError: protocolError, closed: make(chan struct{}), sniffing: make(map[net.Conn]struct{})}
	s.http1 = &half{Listener: l, conns: make(chan net.Conn), closed: s.closed}
	s.http2 = &half{Listener: l, conns: make(chan net.Conn), closed: s.closed}
	return s
}

// run accepts until the listener is closed.
func (s *split) run() error {
	for {
		c, err := s.listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			s.wg.Go(func() { s.sniff(c) })
		case errors.As(err, &temporary) && temporary.Temporary(): // out of file descriptors, say
			time.Sleep(10 * time.Millisecond)
		default:
			return err
		}
	}
}

// close refuses new connections and ends those that have said nothing yet.
func (s *split) close() {
	_ = s.listener.Close() // nothing is lost with it
	close(s.closed)
	s.mu.Lock()
	for c := range s.sniffing {
		_ = c.Close() // it has said nothing
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *split) sniff(c net.Conn) {
	s.mu.Lock()
	s.sniffing[c] = struct{}{}
	s.mu.Unlock()
	prefix, err := firstBytes(c)
	s.mu.Lock()
	delete(s.sniffing, c)
	s.mu.Unlock()
	if err != nil {
		_ = c.Close() // it has left, or never spoke
		return
	}
	to := s.http1
	if string(prefix) == prefaceStart {
		to = s.http2
	}
	select {
	case to.conns <- &conn{Conn: c, prefix: prefix, protocolError: s.protocolError}:
	case <-s.closed:
		_ = c.Close() // the sidecar is going
	}
}

// prefaceStart is the first line of HTTP/2's connection preface (RFC 9113, 3.4).
const prefaceStart = "PRI * HTTP/2.0\r\n"

// firstBytes reads as many bytes as it takes to tell the protocols apart: one,
// unless it is that of the preface.
func firstBytes(c net.Conn) ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(sniffWithin)); err != nil {
		return nil, err
	}
	var got []byte
	for {
		var b [1]byte
		n, err := c.Read(b[:])
		if n == 0 {
			if len(got) > 0 { // the server says what it thinks of it
				break
			}
			return nil, err
		}
		got = append(got, b[0])
		if b[0] != prefaceStart[len(got)-1] || len(got) == len(prefaceStart) {
			break
		}
	}
	return got, c.SetReadDeadline(time.Time{})
}
