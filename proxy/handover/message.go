package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	protocol = 1
	network  = "unixpacket"
	// maxMessage and maxSockets bound what is taken from the other end; the
	// kernel's own limit is 253 descriptors (SCM_MAX_FD).
	maxMessage = 64 << 10
	maxSockets = 250
	// answerWithin is how long the other end may take where it has nothing to do
	// but answer.
	answerWithin = 5 * time.Second
	// serveWithin is how long a new process may take from the sockets to serving.
	serveWithin = 30 * time.Second
)

// What is said.
const (
	take     = "take"
	give     = "give"
	serving  = "serving"
	released = "released"
	refused  = "refused"
)

// message is one of the texts that the package comment lists.
type message struct {
	Version  int      `json:"version"`
	Say      string   `json:"say"`
	Reason   string   `json:"reason,omitempty"`
	Service  string   `json:"service,omitempty"`
	Instance string   `json:"instance,omitempty"`
	Epoch    uint64   `json:"epoch,omitempty"`
	Sockets  []socket `json:"sockets,omitempty"`
}

// socket describes one descriptor.
type socket struct {
	Role    string `json:"role"`
	Address string `json:"address,omitempty"`
	Netns   string `json:"netns,omitempty"`
}

// Roles of descriptors that are not a sidecar's listeners.
const (
	roleControl       = "hand-over"
	roleConfiguration = "configuration" // a file, not a socket
)

// send writes one message with its descriptors.
func send(c *net.UnixConn, m message, fds []int, within time.Duration) error {
	m.Version = protocol
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage || len(fds) > maxSockets {
		return fmt.Errorf("%d bytes and %d sockets are more than can be said at once", len(b), len(fds))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = c.SetWriteDeadline(time.Now().Add(within))
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one message and the descriptors that came with it, which the
// caller owns.
func receive(c *net.UnixConn, within time.Duration) (m message, files []*os.File, err error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxSockets))
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return m, nil, err
	}
	if files, err = descriptors(oob[:oobn]); err != nil {
		return m, nil, err
	}
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	switch err := json.Unmarshal(b[:n], &m); {
	case n == 0:
		return m, files, errGone
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return m, files, errors.New("the message is too long")
	case err != nil:
		return m, files, fmt.Errorf("decode message: %w", err)
	case m.Version != protocol:
		return m, files, fmt.Errorf("the other process speaks version %d of the hand-over, this one %d", m.Version, protocol)
	case m.Say == refused:
		return m, files, fmt.Errorf("refused: %s", m.Reason)
	}
	return m, files, nil
}

// errGone is the end of the other process.
var errGone = errors.New("the other process has gone")

// expect receives a message that carries nothing but its word.
func expect(c *net.UnixConn, say string, within time.Duration) error {
	m, files, err := receive(c, within)
	closeAll(files)
	if err == nil && m.Say != say {
		err = fmt.Errorf("got %q, want %q", m.Say, say)
	}
	return err
}

// descriptors takes files out of control messages. None survives an exec.
func descriptors(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("decode descriptors: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // credentials, say
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // only read from, if at all
	}
}

// sameUser reports an error unless the other end runs as this user or as root.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if peerErr != nil {
		return fmt.Errorf("who is at the other end: %w", peerErr)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("the other process runs as user %d", peer.Uid)
	}
	return nil
}
