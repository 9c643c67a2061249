package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// events writes server-sent events. The first error ends it.
type events struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error
}

// writeWithin is how long a reader may block the hub.
const writeWithin = 5 * time.Second

func newEvents(w http.ResponseWriter) *events {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies must not gather events
	e := &events{w: w, c: http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	e.err = e.c.Flush()
	return e
}

// send writes one event; an id of 0 is left out.
func (e *events) send(name string, id uint64, v any) {
	if e.err != nil {
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		e.err = err
		return
	}
	if id > 0 {
		e.write(fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", name, id, data))
		return
	}
	e.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, data))
}

// ping keeps the connection, and finds out that the reader left.
func (e *events) ping() { e.write(": ping\n\n") }

func (e *events) write(s string) {
	if e.err != nil {
		return
	}
	if e.err = e.c.SetWriteDeadline(time.Now().Add(writeWithin)); e.err != nil {
		return
	}
	if _, e.err = e.w.Write([]byte(s)); e.err != nil {
		return
	}
	e.err = e.c.Flush()
}
