package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Connect asks the HTTP/1.1 server at the other end of c for a tunnel (RFC 9110,
// section 9.3.6): in the mesh, the sidecar of the application that opaque bytes
// are for. authority is host:port, fields go with the request, maxHead bounds the
// answer's head.
//
// With a status of 2xx the tunnel stands and c serves what came behind the head
// as its first bytes. With any other the peer refused, and c is of no use any
// more. The header lives as long as the caller wants. ctx bounds the wait; an
// answer that is not HTTP is an error for which IsMalformed holds.
func Connect(ctx context.Context, c *netio.Conn, authority string, fields []exchange.Field, maxHead int) (status int, header exchange.Header, err error) {
	if !all([]byte(authority), hostByte) || !strings.Contains(authority, ":") {
		return 0, nil, errTarget
	}
	head := append(append(make([]byte, 0, 512), "CONNECT "...), authority...)
	head = appendField(append(head, " HTTP/1.1\r\n"...), "host", authority)
	for _, f := range fields {
		head = appendField(head, f.Name, f.Value)
	}
	m := new(message)
	if err := ask(ctx, c, append(head, "\r\n"...), m, maxHead); err != nil {
		return 0, nil, err
	}
	return m.status, m, nil
}

// IsMalformed reports whether an error of Connect is what was said, not what
// happened to the connection: the answer was not HTTP/1.1, or authority is none.
func IsMalformed(err error) bool {
	var m *malformed
	return errors.As(err, &m)
}

// ask sends the head of a CONNECT request and reads that of its answer into m,
// past interim ones. It leaves c without a deadline, and the bytes behind the
// head unread.
func ask(ctx context.Context, c *netio.Conn, head []byte, m *message, maxHead int) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(past) })
	err := readAnswer(c, head, m, maxHead)
	if !stop() {
		return context.Cause(ctx)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	return err
}

func readAnswer(c *netio.Conn, head []byte, m *message, maxHead int) error {
	var in netio.Buffer
	defer in.Free()
	if _, err := c.Ask(head, &in); err != nil && in.Len() == 0 {
		return err
	}
	for interim := 0; interim <= maxInterim; interim++ {
		if err := parseAnswer(c, &in, m, maxHead); err != nil {
			return err
		}
		switch {
		case m.status == 101:
			return errStatusLine // nobody asked for it
		case m.status >= 200:
			c.Unread(bytes.Clone(in.Bytes()[m.size:]))
			m.raw = bytes.Clone(in.Bytes()[:m.size])
			return nil
		}
		in.Skip(m.size)
	}
	return errStatusLine
}

// parseAnswer reads on until in begins with a head.
func parseAnswer(c *netio.Conn, in *netio.Buffer, m *message, maxHead int) error {
	for parsed := 0; ; {
		if in.Len() > 0 && worthParsing(in.Bytes(), parsed) {
			parsed = in.Len()
			m.clear()
			m.raw = in.Bytes()
			err := m.parseResponse(m.raw)
			switch {
			case err == nil && m.size > maxHead:
				return errTooLarge
			case err == nil:
				return m.checkResponse(m.raw)
			case !errors.Is(err, errIncomplete):
				return err
			}
		}
		if in.Full() {
			if in.Len() >= maxHead {
				return errTooLarge
			}
			in.Grow(min(2*in.Len(), maxHead+1))
		}
		if err := c.Fill(in); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}
