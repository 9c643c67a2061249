package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

// The opcodes of RFC 6455, section 5.2, that are used here.
const (
	frameText  = 1
	frameClose = 8
)

// acceptKey answers a Sec-WebSocket-Key (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// serveWebSocket echoes messages until a close frame comes, which it answers.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	if _, err := fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(r.Header.Get("Sec-WebSocket-Key"))); err != nil {
		return
	}
	for rw.Flush() == nil {
		op, text, err := readFrame(rw.Reader)
		if err != nil || writeFrame(rw, op, text, false) != nil {
			return
		}
		if op == frameClose {
			_ = rw.Flush() // the last thing it does
			return
		}
	}
}

// writeFrame writes a whole message of less than 64 KiB in one frame. The mask
// is a fixed one: what it guards against are proxies that take a frame for HTTP.
func writeFrame(w io.Writer, op byte, text []byte, masked bool) error {
	b := []byte{0x80 | op, byte(len(text))}
	if len(text) > 125 {
		b = binary.BigEndian.AppendUint16([]byte{0x80 | op, 126}, uint16(len(text)))
	}
	if !masked {
		_, err := w.Write(append(b, text...))
		return err
	}
	b[1] |= 0x80
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i, c := range text {
		b = append(b, c^mask[i%4])
	}
	_, err := w.Write(b)
	return err
}

// readFrame reads a frame that writeFrame wrote.
func readFrame(r *bufio.Reader) (op byte, text []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[1] & 0x7f)
	if size == 126 {
		var long [2]byte
		if _, err = io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err = io.ReadFull(r, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	text = make([]byte, size)
	if _, err = io.ReadFull(r, text); err != nil {
		return 0, nil, err
	}
	for i := range text {
		text[i] ^= mask[i%4]
	}
	return head[0] & 0xf, text, nil
}
