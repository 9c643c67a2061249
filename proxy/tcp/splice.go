package tcp

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"syscall"

	"github.com/telemesh/telemesh/proxy/netio"
)

// spliceSize is the most that one system call moves: the default capacity of a
// pipe, so that one needs no further setting (pipe(7)).
const spliceSize = 64 << 10

// Flags of splice(2).
const (
	spliceMove     = 1
	spliceNonblock = 2
)

// errCannotSplice says that the kernel does not splice these two sockets.
var errCannotSplice = errors.New("cannot splice")

// pipe is the kernel's buffer that splice(2) needs between two sockets. It is
// always empty while it is in the pool.
type pipe struct{ read, write int }

func (p *pipe) close() {
	_ = syscall.Close(p.read) // it is empty
	_ = syscall.Close(p.write)
}

// pipes are taken when bytes are there and given back when they have gone: a
// silent connection holds no pipe. What the collector drops is closed by its
// finalizer, so the pool's size follows the load.
var pipes = sync.Pool{New: func() any {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return (*pipe)(nil)
	}
	p := &pipe{read: fds[0], write: fds[1]}
	runtime.SetFinalizer(p, (*pipe).close)
	return p
}}

// splice moves bytes of one direction from socket to socket without a copy to
// this program. Its functions are made once; see netio.
type splice struct {
	from, to  syscall.RawConn
	pipe      *pipe
	held      int    // bytes in the pipe
	took      func() // called between the two calls
	moved     int64
	err       error
	readFunc  func(fd uintptr) bool
	writeFunc func(fd uintptr) bool
}

// newSplice returns nil where both ends are not plain sockets. took is called when
// bytes were taken and before they go on.
func newSplice(from, to *netio.Conn, took func()) *splice {
	if !from.Plain() || !to.Plain() {
		return nil
	}
	a, ok := from.Conn.(syscall.Conn)
	b, also := to.Conn.(syscall.Conn)
	if !ok || !also {
		return nil
	}
	s := &splice{took: took}
	var err, other error
	s.from, err = a.SyscallConn()
	s.to, other = b.SyscallConn()
	if err != nil || other != nil {
		return nil
	}
	s.readFunc, s.writeFunc = s.fill, s.drain
	return s
}

// move waits for bytes and moves what is there. blame is the side of an error.
func (s *splice) move(source, sink Side) (n int64, blame Side, err error) {
	s.err, s.moved, s.held = nil, 0, 0
	err = s.from.Read(s.readFunc)
	switch {
	case err == nil && s.err != nil:
		err = s.err
	case err == nil && s.held == 0:
		err = io.EOF
	}
	if err != nil {
		s.release()
		return 0, source, err
	}
	s.took()
	err = s.to.Write(s.writeFunc)
	if err == nil {
		err = s.err
	}
	s.release()
	return s.moved, sink, err
}

// fill takes bytes from the source into a pipe.
func (s *splice) fill(fd uintptr) bool {
	if s.pipe == nil {
		if s.pipe = pipes.Get().(*pipe); s.pipe == nil {
			s.err = errCannotSplice // no descriptors left: copy instead
			return true
		}
	}
	for {
		n, err := syscall.Splice(int(fd), nil, s.pipe.write, nil, spliceSize, spliceMove|spliceNonblock)
		switch err {
		case nil:
			s.held = int(n)
		case syscall.EINTR:
			continue
		case syscall.EAGAIN: // the pipe is empty, so it is the socket that has nothing
			s.release()
			return false
		case syscall.EINVAL, syscall.ENOSYS:
			s.err = errCannotSplice
		default:
			s.err = err
		}
		return true
	}
}

// drain sends what the pipe holds.
func (s *splice) drain(fd uintptr) bool {
	for s.held > 0 {
		n, err := syscall.Splice(s.pipe.read, nil, int(fd), nil, s.held, spliceMove|spliceNonblock)
		switch err {
		case nil:
			s.held -= int(n)
			s.moved += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.err = err
			return true
		}
	}
	return true
}

// release gives the pipe back; one that still holds bytes is closed.
func (s *splice) release() {
	if s.pipe == nil {
		return
	}
	if s.held == 0 {
		pipes.Put(s.pipe)
	} else {
		runtime.SetFinalizer(s.pipe, nil)
		s.pipe.close()
	}
	s.pipe = nil
}
