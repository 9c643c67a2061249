package engine

import (
	"bytes"
	"net"
)

// conn watches for the fixed form of net/http's own refusals. No answer of a
// handler has it, since those carry a Date.
type conn struct {
	net.Conn
	prefix        []byte // read already, not yet handed on
	protocolError func(reason string)
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

var refusals = []struct {
	status []byte
	reason string
}{
	{[]byte("HTTP/1.1 400 Bad Request"), "malformed_request"},
	{[]byte("HTTP/1.1 431 Request Header Fields Too Large"), "header_too_large"},
	{[]byte("HTTP/1.1 501 Not Implemented"), "unsupported_transfer_encoding"},
	{[]byte("HTTP/1.1 505 HTTP Version Not Supported"), "unsupported_version"},
}

var refusalHead = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

func (c *conn) Write(p []byte) (int, error) {
	for _, r := range refusals {
		if bytes.HasPrefix(p, r.status) && bytes.Contains(p, refusalHead) {
			c.protocolError(r.reason)
			break
		}
	}
	return c.Conn.Write(p)
}

// CloseWrite passes a half-close on.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return c.Close()
}
