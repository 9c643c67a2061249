package netio

import "io"

// Each waits for bytes, fills b with them and calls step, again and again until
// step returns false or the connection fails. After true the bytes in b, if any,
// are a part of what step waits for.
//
// Where Fill asks the socket before each wait, because bytes may have come since
// the last read, Each knows: the wait that follows step is the one that was
// armed before it, so what came meanwhile ends it at once. That saves a request
// the system call that says "not yet". step must not read from the connection or
// set a deadline; others may, for a read that is under way as for any. Nobody but
// step may write meanwhile, which it does without asking for the socket again.
//
// One thing it can miss: an end that comes together with the last bytes, which a
// read of fewer bytes than there was room for does not show. Whoever waits long
// looks with Peer.
//
// It reports false at once for what is not a plain socket.
func (c *Conn) Each(b *Buffer, step func() bool) (bool, error) {
	if c.raw == nil || len(c.early) > 0 {
		return false, nil
	}
	t := &c.read
	t.take, t.step, t.n, t.err = b, step, 0, nil
	if t.each == nil {
		t.each = c.eachOnce
	}
	err := c.raw.Read(t.each)
	t.take, t.step = nil, nil
	switch {
	case err != nil:
		return true, err
	case t.err != nil:
		return true, t.err
	case t.n == 0:
		return true, io.EOF
	}
	return true, nil
}

// eachOnce reads until the socket is empty and has step use it.
func (c *Conn) eachOnce(fd uintptr) bool {
	t := &c.read
	for {
		room := t.take.Room()
		if !t.readInto(fd, room) {
			return false
		}
		if t.err != nil || t.n == 0 {
			return true
		}
		t.take.End += t.n
		c.held = fd + 1
		again := t.step()
		if c.held = 0; !again {
			return true
		}
		if t.n < len(room) { // the socket was empty: what comes now is news
			t.n = 0
			return false
		}
	}
}
