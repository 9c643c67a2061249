package detect

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// lesson is what earlier connections to a destination taught.
type lesson uint8

const (
	nothing     lesson = iota
	serverFirst        // the server spoke first
	clientFirst        // the caller did
)

// Memory remembers who speaks first at a destination. It forgets the destination
// that was longest not used when it is full, and each one some time after it was
// learned, because another program may serve the address by then. Safe for
// concurrent use.
type Memory struct {
	size int
	ttl  time.Duration
	now  func() int64

	mu    sync.Mutex // guards the fields below
	known map[netip.AddrPort]*list.Element
	order list.List // of *entry, the last used first
}

type entry struct {
	destination netip.AddrPort
	lesson      lesson
	until       int64
}

// NewMemory returns an empty memory for size destinations, each of which is
// forgotten ttl after it was learned.
func NewMemory(size int, ttl time.Duration) *Memory {
	return &Memory{size: max(size, 1), ttl: ttl, now: netio.Now, known: make(map[netip.AddrPort]*list.Element)}
}

// ServerSpeaksFirst tells the memory what was seen after a detection that had no
// upstream to listen to.
func (m *Memory) ServerSpeaksFirst(destination netip.AddrPort) { m.learn(destination, serverFirst) }

func (m *Memory) recall(destination netip.AddrPort) lesson {
	if m == nil || !destination.IsValid() {
		return nothing
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.known[destination]
	if e == nil {
		return nothing
	}
	if known := e.Value.(*entry); m.now() < known.until {
		m.order.MoveToFront(e)
		return known.lesson
	}
	m.forget(e)
	return nothing
}

func (m *Memory) learn(destination netip.AddrPort, l lesson) {
	if m == nil || !destination.IsValid() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	until := m.now() + int64(m.ttl)
	if e := m.known[destination]; e != nil {
		e.Value.(*entry).lesson, e.Value.(*entry).until = l, until
		m.order.MoveToFront(e)
		return
	}
	for len(m.known) >= m.size {
		m.forget(m.order.Back())
	}
	m.known[destination] = m.order.PushFront(&entry{destination: destination, lesson: l, until: until})
}

func (m *Memory) forget(e *list.Element) {
	delete(m.known, e.Value.(*entry).destination)
	m.order.Remove(e)
}
