package main

import (
	"sync"
	"time"
)

// call is one request or session as its client saw it.
type call struct {
	id     string
	kind   string
	method string // GET, POST, CONNECT, empty for opaque TCP
	began  time.Time
	ended  time.Time
	// status is HTTP's, 0 if no head came. grpc is gRPC's, -1 for what is not
	// gRPC.
	status int
	grpc   int
	// ok: the whole answer came and was the right one.
	ok bool
	// left: the client gave up on purpose.
	left bool
	err  string
}

// ledger keeps all calls. Safe for concurrent use.
type ledger struct {
	mu    sync.Mutex // guards the fields below
	calls []call
}

func (l *ledger) add(c call) {
	c.ended = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}
