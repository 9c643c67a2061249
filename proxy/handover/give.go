package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a listening socket and what it is for.
type Listener struct {
	Role string
	net.Listener
	// Netns is the path of the network namespace that it was opened in, empty
	// for the process' own.
	Netns string
}

// Offer is what a new process is given.
type Offer struct {
	Service, Instance string
	Epoch             uint64
	Listeners         []Listener
	// Configuration is what the old process knows of the mesh, so that the new
	// one need not wait for a hub.
	Configuration []byte
}

// Control is the Unix socket at which a process waits for its successor.
type Control struct {
	l    *net.UnixListener
	path string
}

// Listen opens the control socket at path, for this user alone. A socket there
// that nobody listens on is replaced; Take has found out before.
func Listen(path string) (*Control, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path) // if that fails, so does what follows
	}
	// The mode is set before the socket has a name: there is no moment at which
	// others could connect.
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := c.Listen(context.Background(), network, path)
	if err != nil {
		return nil, err
	}
	unixListener := l.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	return &Control{l: unixListener, path: path}, nil
}

// Close stops waiting and removes the path: there is no successor. It is safe
// after Wait has found one, and then does nothing.
func (c *Control) Close() {
	if c.l.Close() == nil {
		_ = os.Remove(c.path) // somebody else may have
	}
}

// Wait gives what offer returns to the first new process that comes and serves
// with it, and returns nil once that is so. offer may refuse, with the reason.
// An attempt that fails is logged and changes nothing. The end of ctx is the
// only error.
func (c *Control) Wait(ctx context.Context, offer func() (Offer, error), log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() { _ = c.l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		conn, err := c.l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // it finds nobody
			}
			return ctx.Err()
		}
		if err != nil {
			log.Warn("hand-over socket", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		err = c.hand(ctx, conn, offer)
		_ = conn.Close() // all is said
		if err == nil {
			return nil
		}
		log.Warn("hand-over did not come about, serving on", "error", err)
	}
}

// hand serves one new process.
func (c *Control) hand(ctx context.Context, conn *net.UnixConn, offer func() (Offer, error)) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	err := sameUser(conn)
	if err == nil {
		err = expect(conn, take, answerWithin)
	}
	var o Offer
	if err == nil {
		o, err = offer()
	}
	if err == nil {
		err = c.give(conn, o)
	}
	if err != nil {
		_ = send(conn, message{Say: refused, Reason: err.Error()}, nil, answerWithin) // it may have gone
		return err
	}
	if err := expect(conn, serving, serveWithin); err != nil {
		return fmt.Errorf("the new process did not get to serve: %w", err)
	}
	_ = c.l.Close() // the descriptor only: the new process has its own
	if err := send(conn, message{Say: released}, nil, answerWithin); err != nil && ctx.Err() == nil {
		// It said that it serves. Going on beside it would be worse.
		return nil //nolint:nilerr // as said
	}
	return nil
}

// give sends the sockets. Duplicates are sent because a descriptor in use must
// not be closed on the way.
func (c *Control) give(conn *net.UnixConn, o Offer) error {
	m := message{Say: give, Service: o.Service, Instance: o.Instance, Epoch: o.Epoch}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd) // the new process holds its own
		}
	}()
	add := func(s socket, l any) error {
		fd, err := duplicate(l)
		if err != nil {
			return fmt.Errorf("%s socket: %w", s.Role, err)
		}
		fds, m.Sockets = append(fds, fd), append(m.Sockets, s)
		return nil
	}
	for _, l := range o.Listeners {
		if err := add(socket{l.Role, l.Addr().String(), l.Netns}, l.Listener); err != nil {
			return err
		}
	}
	if err := add(socket{Role: roleControl}, c.l); err != nil {
		return err
	}
	if len(o.Configuration) > 0 {
		fd, err := inMemory(o.Configuration)
		if err != nil {
			return err
		}
		fds, m.Sockets = append(fds, fd), append(m.Sockets, socket{Role: roleConfiguration})
	}
	return send(conn, m, fds, answerWithin)
}

// duplicate is a descriptor of the same socket. net's File would do, but taking
// the number out of it makes the socket, and so ours too, blocking.
func duplicate(l any) (int, error) {
	s, ok := l.(syscall.Conn)
	if !ok {
		return -1, errors.New("is not a plain socket")
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	var out int
	var dupErr error
	if err := raw.Control(func(fd uintptr) { out, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	return out, dupErr
}

// inMemory is a file without a name that holds b.
func inMemory(b []byte) (int, error) {
	fd, err := unix.MemfdCreate("configuration", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("configuration in memory: %w", err)
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			_ = unix.Close(fd) // of no use
			return -1, fmt.Errorf("configuration in memory: %w", err)
		}
		b = b[n:]
	}
	return fd, nil
}
