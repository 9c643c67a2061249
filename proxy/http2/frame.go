package http2

import "encoding/binary"

// Frame types (RFC 9113, section 6).
const (
	frameData = iota
	frameHeaders
	framePriority
	frameRSTStream
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Frame flags.
const (
	flagEndStream  = 0x1
	flagACK        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	preface         = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeaderSize = 9
	// maxFrame is the largest payload that we take and send: the least that
	// every peer takes, so nothing has to be announced.
	maxFrame    = 16 << 10
	maxWindow   = 1<<31 - 1
	maxStreamID = 1<<31 - 1
)

// errCode is an error code of RFC 9113, section 7.
type errCode uint32

const (
	errNo              errCode = 0x0
	errProtocol        errCode = 0x1
	errInternal        errCode = 0x2
	errFlowControl     errCode = 0x3
	errStreamClosed    errCode = 0x5
	errFrameSize       errCode = 0x6
	errRefusedStream   errCode = 0x7
	errCancel          errCode = 0x8
	errCompression     errCode = 0x9
	errEnhanceYourCalm errCode = 0xb
)

// connError ends a connection with a GOAWAY. The reason is a constant: it
// becomes a metric's label.
type connError struct {
	code   errCode
	reason string
}

func (e *connError) Error() string { return e.reason }

// frameHead is the fixed head of a frame.
type frameHead struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

// parseFrameHead reads a head from the first nine bytes of b.
func parseFrameHead(b []byte) frameHead {
	return frameHead{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func (h frameHead) has(flag byte) bool { return h.flags&flag != 0 }

func appendFrameHead(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendRSTStream(dst []byte, stream uint32, code errCode) []byte {
	dst = appendFrameHead(dst, 4, frameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, stream uint32, n int) []byte {
	dst = appendFrameHead(dst, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendGoAway(dst []byte, last uint32, code errCode) []byte {
	dst = appendFrameHead(dst, 8, frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendPing(dst []byte, flags byte, data []byte) []byte {
	return append(appendFrameHead(dst, 8, framePing, flags, 0), data[:8]...)
}

// unpad takes the padding off a payload whose frame is padded.
func unpad(h frameHead, p []byte) ([]byte, bool) {
	if !h.has(flagPadded) {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}
