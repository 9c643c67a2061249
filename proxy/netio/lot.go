package netio

import (
	"os"
	"sync"
	"syscall"
)

// Lot waits for the next byte of many silent connections at once. A connection
// that is parked costs an entry in a map: no goroutine, and so no stack, which is
// most of what a silent connection costs otherwise. The zero value is an empty lot.
// Safe for concurrent use.
type Lot struct {
	mu     sync.Mutex // guards the fields below
	poll   *os.File   // the epoll instance; nil while nothing was ever parked
	fd     int        // its own; File.Fd would have it block
	parked map[int32]place
	closed bool

	waiting sync.WaitGroup
}

type place struct {
	c    *Conn
	wake Waker
}

// Waker is told once that its connection is not parked any more. Wake must
// return soon: others wait meanwhile.
type Waker interface{ Wake() }

// Park has w woken when a byte or the end comes on c, at once if it is there. It
// reports whether it does. Nobody else may read from c, or close it, until then
// or until Take has taken it back.
func (l *Lot) Park(c *Conn, w Waker) bool {
	if c.raw == nil || len(c.early) > 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.poll == nil && !l.open() {
		return false
	}
	parked := false
	_ = c.raw.Control(func(fd uintptr) { // it fails on a closed connection
		event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
		if parked = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, int(fd), &event) == nil; parked {
			l.parked[event.Fd] = place{c, w}
			c.lot = event.Fd
		}
	})
	return parked
}

// Take takes a connection back without waking anybody. It is false for one that
// is not parked, or not any more.
func (l *Lot) Take(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked[c.lot].c != c {
		return false
	}
	l.leave(c.lot)
	return true
}

// leave takes a socket off. The lock is held.
func (l *Lot) leave(fd int32) {
	delete(l.parked, fd)
	_ = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_DEL, int(fd), nil) // it is there: it is open, and was added
}

// Close ends the lot's goroutine. What is parked stays so and is not woken.
func (l *Lot) Close() {
	l.mu.Lock()
	l.closed = true
	if l.poll != nil {
		_ = l.poll.Close() // nothing was written
	}
	l.mu.Unlock()
	l.waiting.Wait()
}

// open makes the epoll instance, itself watched by Go's, and begins to wait. The
// lock is held.
func (l *Lot) open() bool {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // for os.NewFile to have it polled
		_ = syscall.Close(fd)
		return false
	}
	poll := os.NewFile(uintptr(fd), "epoll")
	raw, err := poll.SyscallConn()
	if err != nil {
		_ = poll.Close()
		return false
	}
	l.poll, l.fd, l.parked = poll, fd, make(map[int32]place)
	l.waiting.Go(func() { l.wait(raw) })
	return true
}

// wait wakes connections until the lot is closed.
func (l *Lot) wait(raw syscall.RawConn) {
	var events [64]syscall.EpollEvent
	var ready []Waker
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events[:], 0) // an interrupted one is tried again
			return n > 0
		})
		if err != nil {
			return
		}
		ready = l.ready(ready[:0], events[:n])
		for i, w := range ready {
			w.Wake()
			ready[i] = nil
		}
	}
}

// ready takes off what events name. An event may come after Take, and name a
// socket that is another connection's by now: that one wakes in vain.
func (l *Lot) ready(dst []Waker, events []syscall.EpollEvent) []Waker {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return dst
	}
	for _, e := range events {
		if p, ok := l.parked[e.Fd]; ok {
			dst = append(dst, p.wake)
			l.leave(e.Fd)
		}
	}
	return dst
}

// Len counts the parked connections.
func (l *Lot) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}
