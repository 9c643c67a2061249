package http2

import "encoding/binary"

// Settings (RFC 9113, section 6.5.2; RFC 8441, section 3).
const (
	settingHeaderTableSize      = 0x1
	settingEnablePush           = 0x2
	settingMaxConcurrentStreams = 0x3
	settingInitialWindowSize    = 0x4
	settingMaxFrameSize         = 0x5
	settingMaxHeaderListSize    = 0x6
	settingEnableConnect        = 0x8
)

const (
	defaultWindow = 65535
	// streamWindow is what a peer may send on a stream before it has been
	// forwarded: the bound of a stream's buffer.
	streamWindow = 256 << 10
	// connWindow bounds what is buffered of all the streams of a connection.
	// It is far above streamWindow, for a few stalled streams must not stall
	// their neighbours.
	connWindow = 16 << 20
	// initialConcurrent is taken for a peer's limit until its SETTINGS come.
	initialConcurrent = 100
	// headerTable is the size of the dynamic tables, both ways.
	headerTable = 4096
)

// peerSettings is what the other side announced.
type peerSettings struct {
	initialWindow int64
	maxConcurrent uint32
	connect       bool // extended CONNECT (RFC 8441)
	received      bool
}

// appendSettings writes our own SETTINGS and opens the connection's window.
func (c *conn) appendSettings(dst []byte) []byte {
	var list [6]struct {
		id    uint16
		value uint32
	}
	n := 0
	add := func(id uint16, value uint32) { list[n].id, list[n].value = id, value; n++ }
	add(settingInitialWindowSize, streamWindow)
	add(settingMaxHeaderListSize, uint32(c.server.o.MaxHeaderBytes))
	if c.client {
		add(settingEnablePush, 0)
	} else {
		add(settingMaxConcurrentStreams, c.server.o.MaxConcurrentStreams)
		add(settingEnableConnect, 1)
	}
	dst = appendFrameHead(dst, 6*n, frameSettings, 0, 0)
	for _, s := range list[:n] {
		dst = binary.BigEndian.AppendUint16(dst, s.id)
		dst = binary.BigEndian.AppendUint32(dst, s.value)
	}
	return appendWindowUpdate(dst, 0, connWindow-defaultWindow)
}

// onSettings applies the peer's SETTINGS and acknowledges them.
func (c *conn) onSettings(h frameHead, p []byte) error {
	switch {
	case h.stream != 0:
		return &connError{errProtocol, "settings_on_stream"}
	case h.has(flagACK) && len(p) != 0, len(p)%6 != 0:
		return &connError{errFrameSize, "settings_size"}
	case h.has(flagACK):
		return nil
	}
	if err := c.guard.control(); err != nil {
		return err
	}
	c.mu.Lock()
	for ; len(p) > 0; p = p[6:] {
		if err := c.applySetting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	first := !c.peer.received
	c.peer.received = true
	c.wbuf = appendFrameHead(c.output(), 0, frameSettings, flagACK, 0)
	c.mu.Unlock()
	c.batch.add(c)
	if first && c.client {
		c.batch.freed = append(c.batch.freed, c.set) // its limit is known now
	}
	return nil
}

// applySetting is called with the lock held.
func (c *conn) applySetting(id uint16, value uint32) error {
	switch id {
	case settingHeaderTableSize:
		c.enc.resize(int(min(value, headerTable)))
	case settingEnablePush:
		if value > 1 || c.client && value == 1 {
			return &connError{errProtocol, "settings_value"}
		}
	case settingMaxConcurrentStreams:
		c.peer.maxConcurrent = value
	case settingInitialWindowSize:
		if value > maxWindow {
			return &connError{errFlowControl, "settings_value"}
		}
		return c.resizeWindows(int64(value))
	case settingMaxFrameSize:
		if value < maxFrame || value > 1<<24-1 {
			return &connError{errProtocol, "settings_value"}
		}
	case settingEnableConnect:
		if value > 1 || c.peer.connect && value == 0 {
			return &connError{errProtocol, "settings_value"}
		}
		c.peer.connect = value == 1
	}
	return nil // RFC 9113, section 6.5.2: unknown settings are ignored
}

// resizeWindows applies another initial window to the open streams too
// (RFC 9113, section 6.9.2). A window may become negative.
func (c *conn) resizeWindows(initial int64) error {
	delta := initial - c.peer.initialWindow
	c.peer.initialWindow = initial
	for _, h := range c.streams {
		h.sendWindow += delta
		if h.sendWindow > maxWindow {
			return &connError{errFlowControl, "window_overflow"}
		}
		c.schedule(h)
	}
	c.pump(&c.batch)
	return nil
}
