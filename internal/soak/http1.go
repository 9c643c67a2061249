package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// patience is a client's; it is longer than any stall.
const patience = 15 * time.Second

// host is how callers name the application.
const host = "echo"

// caller is an HTTP/1 client that sends nothing twice: one connection at a
// time, closed only when an answer said so, or after each request.
type caller struct {
	address string
	once    bool
	conn    net.Conn
	in      *bufio.Reader
}

func (c *caller) dial() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.address, patience)
	if err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return nil
}

func (c *caller) end() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}

// do sends one request and reads its answer; a body must come back as it went.
func (c *caller) do(one *call, path string, body []byte, chunked bool, limit time.Duration) {
	err := c.exchange(one, path, body, chunked, limit)
	one.ok = err == nil
	if err != nil {
		one.err = err.Error()
	}
	if err != nil || c.once {
		c.end()
	}
}

func (c *caller) exchange(one *call, path string, body []byte, chunked bool, limit time.Duration) error {
	if err := c.dial(); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(limit))
	// A refusal may come before the whole body has left.
	_, sent := c.conn.Write(message(one, path, body, chunked))
	r, err := http.ReadResponse(c.in, &http.Request{Method: one.method})
	if err != nil {
		return errors.Join(sent, err)
	}
	one.status = r.StatusCode
	got, err := io.ReadAll(r.Body)
	if r.Close {
		c.end()
	}
	switch {
	case err != nil:
		return err
	case sent != nil && r.StatusCode == http.StatusOK:
		return sent
	case strings.HasPrefix(path, "/status/"):
		if path != fmt.Sprintf("/status/%d", r.StatusCode) {
			return fmt.Errorf("status %d for %s", r.StatusCode, path)
		}
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d: %.80s", r.StatusCode, got)
	case !bytes.Equal(got, body):
		return errors.New("the body is not the one that was sent")
	}
	return nil
}

// message is a request as an application sends it to its sidecar.
func message(one *call, path string, body []byte, chunked bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s http://%s%s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n", one.method, host, path, host, requestID, one.id)
	switch {
	case chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(3000))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	case body != nil:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
		b.Write(body)
	default:
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// webSocket opens one and has some messages echoed.
func webSocket(address string, one *call, messages int, pause time.Duration) error {
	c := &caller{address: address}
	if err := c.dial(); err != nil {
		return err
	}
	defer c.end()
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	const key = "dGhlIHNvYWsga2V5IDE2Yg=="
	if _, err := fmt.Fprintf(c.conn, "GET http://%s/ws HTTP/1.1\r\nHost: %s\r\n%s: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		host, host, requestID, one.id, key); err != nil {
		return err
	}
	r, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return err
	}
	one.status = r.StatusCode
	if r.StatusCode != http.StatusSwitchingProtocols || r.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		return fmt.Errorf("status %d, no WebSocket", r.StatusCode)
	}
	for i := range messages {
		text := bytes.Repeat([]byte{byte('a' + i%26)}, 1+rand.IntN(4000))
		if err := writeFrame(c.conn, frameText, text, true); err != nil {
			return err
		}
		op, got, err := readFrame(c.in)
		if err != nil {
			return err
		}
		if op != frameText || !bytes.Equal(got, text) {
			return errors.New("the message is not the one that was sent")
		}
		time.Sleep(pause)
	}
	if err := writeFrame(c.conn, frameClose, nil, true); err != nil {
		return err
	}
	op, _, err := readFrame(c.in)
	if err == nil && op != frameClose {
		err = errors.New("no close frame came")
	}
	return err
}

// opaqueMark begins what is neither HTTP nor TLS.
const opaqueMark = 0

// opaque has a session of the application's own protocol; connect asks the
// outbound listener for a tunnel first.
func opaque(address string, one *call, connect bool, pause time.Duration) error {
	c := &caller{address: address}
	if err := c.dial(); err != nil {
		return err
	}
	defer c.end()
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if connect {
		if _, err := fmt.Fprintf(c.conn, "CONNECT %s:80 HTTP/1.1\r\nHost: %s:80\r\n%s: %s\r\n\r\n", host, host, requestID, one.id); err != nil {
			return err
		}
		r, err := http.ReadResponse(c.in, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return err
		}
		if one.status = r.StatusCode; r.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", r.StatusCode)
		}
	}
	text := bytes.Repeat([]byte("telemesh "), 1+rand.IntN(2000))
	if _, err := fmt.Fprintf(c.conn, "%c%s\n", opaqueMark, one.id); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		half := len(text) / 2
		_, err := c.conn.Write(text[:half])
		time.Sleep(pause)
		if err == nil {
			_, err = c.conn.Write(text[half:])
		}
		if err == nil {
			err = c.conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(c.in)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return fmt.Errorf("%d bytes came back, want %d", len(got), len(text))
	}
	return nil
}
