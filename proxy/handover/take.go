package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// maxConfiguration bounds what is read of the old process' configuration.
const maxConfiguration = 64 << 20

// ErrNobody says that no process listens at the path.
var ErrNobody = errors.New("nobody to take over from")

// Taken is what an old process gave. It is for one goroutine.
type Taken struct {
	Service, Instance string
	// Epoch of the old process; the new one's must be greater.
	Epoch         uint64
	Configuration []byte

	conn    *net.UnixConn
	sockets []socket
	files   []*os.File // those of sockets; nil once used
	path    string
}

// Take asks the process that listens at path for its sockets. It returns
// ErrNobody if there is none. Until Serving the old process serves on.
func Take(ctx context.Context, path string) (*Taken, error) {
	dialer := net.Dialer{Timeout: answerWithin}
	c, err := dialer.DialContext(ctx, network, path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNobody
	case err != nil:
		return nil, err
	}
	conn := c.(*net.UnixConn)
	t, err := ask(conn)
	if err != nil {
		_ = conn.Close() // nothing was taken
		return nil, fmt.Errorf("take over at %s: %w", path, err)
	}
	t.path = path
	return t, nil
}

func ask(conn *net.UnixConn) (*Taken, error) {
	if err := sameUser(conn); err != nil {
		return nil, err
	}
	if err := send(conn, message{Say: take}, nil, answerWithin); err != nil {
		return nil, err
	}
	m, files, err := receive(conn, answerWithin)
	if err != nil {
		return nil, err
	}
	t := &Taken{Service: m.Service, Instance: m.Instance, Epoch: m.Epoch, conn: conn, sockets: m.Sockets, files: files}
	if m.Say != give || len(files) != len(m.Sockets) {
		closeAll(files)
		return nil, fmt.Errorf("got %q with %d descriptors for %d sockets", m.Say, len(files), len(m.Sockets))
	}
	if t.Configuration, err = t.configuration(); err != nil {
		closeAll(files)
		return nil, err
	}
	return t, nil
}

func (t *Taken) configuration() ([]byte, error) {
	f := t.file(func(s socket) bool { return s.Role == roleConfiguration })
	if f == nil {
		return nil, nil
	}
	defer f.Close()
	// Its offset is where the old process left it.
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxConfiguration+1))
	if len(b) > maxConfiguration {
		return nil, errors.New("the configuration is too large")
	}
	return b, err
}

// file takes the first file that fits out of t.
func (t *Taken) file(fits func(socket) bool) *os.File {
	for i, f := range t.files {
		if f != nil && fits(t.sockets[i]) {
			t.files[i] = nil
			return f
		}
	}
	return nil
}

// Listener is the old process' listener for role if it is bound to address, in
// that network namespace, or if address leaves the port open. Without such a
// one it is nil: the new process opens its own.
func (t *Taken) Listener(role, address, netns string) (net.Listener, error) {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	f := t.file(func(s socket) bool {
		have, err := net.ResolveTCPAddr("tcp", s.Address)
		return err == nil && s.Role == role && s.Netns == netns && (want.Port == 0 || want.Port == have.Port) && sameHost(want.IP, have.IP)
	})
	if f == nil {
		return nil, nil
	}
	defer f.Close() // the listener has a descriptor of its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("%s socket: %w", role, err)
	}
	return l, nil
}

func sameHost(a, b net.IP) bool {
	anywhere := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return anywhere(a) && anywhere(b) || a.Equal(b)
}

// Serving tells the old process that this one serves, and takes its control
// socket over. It closes t. An error says that the old process did not confirm
// it, and may serve on.
func (t *Taken) Serving() (*Control, error) {
	defer t.Close()
	if err := send(t.conn, message{Say: serving}, nil, answerWithin); err != nil {
		return nil, err
	}
	if err := expect(t.conn, released, answerWithin); err != nil {
		return nil, err
	}
	f := t.file(func(s socket) bool { return s.Role == roleControl })
	if f == nil {
		return nil, errors.New("no hand-over socket came")
	}
	defer f.Close() // as above
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("hand-over socket: %w", err)
	}
	control, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close() // is something else
		return nil, errors.New("the hand-over socket is none")
	}
	control.SetUnlinkOnClose(false)
	_ = control.SetDeadline(time.Time{})
	return &Control{l: control, path: t.path}, nil
}

// Close gives back what was not used. The old process serves on unless Serving
// was called.
func (t *Taken) Close() {
	for i, f := range t.files {
		if f != nil {
			_ = f.Close() // never used
			t.files[i] = nil
		}
	}
	_ = t.conn.Close() // its end says all
}
