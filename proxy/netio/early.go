package netio

// Unread gives bytes back that were read: they are served again before anything
// else. The connection keeps b. It must not run at the same time as a read.
func (c *Conn) Unread(b []byte) {
	switch {
	case len(b) == 0:
	case len(c.early) == 0:
		c.early = b
	default:
		c.early = append(append(make([]byte, 0, len(b)+len(c.early)), b...), c.early...)
	}
}

// TakeEarly returns what was read before the connection was taken over and not
// served yet; it is not served any more. Whoever moves bytes past Read, as
// splice(2) does, sends these first.
func (c *Conn) TakeEarly() []byte {
	b := c.early
	c.early = nil
	return b
}
