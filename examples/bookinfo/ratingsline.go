package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ratings has a protocol of its own too, which is not HTTP, so that a mesh can be
// shown connections whose bytes it does not understand. A connection carries one
// call: "GET 7" and a newline from the caller, then one line of JSON from ratings,
// which closes the connection. The line is what /ratings/7 answers, or has an
// error with the status that HTTP would have had.
const (
	// maxLine bounds what a caller may send.
	maxLine = 64
	// lineTimeout bounds how long a caller may take to send or to read a line.
	lineTimeout = 10 * time.Second
)

// lineError is an answer that is no Ratings.
type lineError struct {
	Error  string `json:"error"`
	Status int    `json:"status"`
}

// lines answers ratings' own protocol. Safe for concurrent use.
type lines struct {
	ratings *ratings
	counts  *counts
}

// serve answers on ln, which it closes, until ctx ends, then lets the calls in
// flight finish for drainPeriod. It returns only when none runs.
func (s *lines) serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })() // Accept says what it has to say
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var open sync.WaitGroup
	var err error
	for {
		var c net.Conn
		if c, err = ln.Accept(); err != nil {
			break
		}
		open.Go(func() { s.serveConn(calls, c) })
	}
	_ = ln.Close() // it may be
	defer time.AfterFunc(drainPeriod, cut).Stop()
	open.Wait()
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serveConn answers one call. One that sent nothing is none: a sidecar connects
// now and then to see whether somebody is there.
func (s *lines) serveConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetReadDeadline(time.Now().Add(lineTimeout)) // fails if closed, and so does Read
	line, err := bufio.NewReaderSize(c, maxLine).ReadSlice('\n')
	if len(line) == 0 {
		return
	}
	s.counts.received.Add(1)
	v := any(lineError{"want GET and a product ID, and the end of the line", http.StatusBadRequest})
	if err == nil {
		if v, err = s.answer(ctx, string(line)); err != nil {
			return // the service stops
		}
	}
	body, err := json.Marshal(v)
	if err != nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(lineTimeout))
	_, _ = c.Write(append(body, '\n')) // the only cause to fail is a caller that has left
}

// answer is what one line gets. It fails only with ctx.
func (s *lines) answer(ctx context.Context, line string) (any, error) {
	text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "GET ")
	id, err := strconv.Atoi(text)
	if !ok || err != nil || id < 0 {
		return lineError{"please provide numeric product ID", http.StatusBadRequest}, nil
	}
	status, err := s.ratings.misbehave(ctx)
	if err != nil {
		return nil, err
	}
	if status != 0 {
		return lineError{faultInjected, status}, nil
	}
	return Ratings{ID: id, Ratings: s.ratings.of(id)}, nil
}

// line asks ratings for a product in its own protocol, over a connection to
// address made for it, on behalf of in. It is get in another protocol. What the
// mesh sees is a connection, so a call is counted as a request once it has one,
// and as failed without a whole answer.
func (c *caller) line(in *http.Request, address string, id int) (answer, error) {
	ctx, cancel := context.WithTimeout(in.Context(), callTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	n := c.counts.sent[serviceRatings]
	// A reset may overtake the end of connect(2): there was a connection.
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		n.unsent.Add(1)
		return answer{}, fmt.Errorf("call %s: %w", serviceRatings, err)
	}
	n.requests.Add(1)
	var ans answer
	if err == nil {
		ans, err = exchangeLine(ctx, conn, "GET "+strconv.Itoa(id)+"\n")
	}
	if err != nil {
		n.failed.Add(1)
		return answer{}, fmt.Errorf("call %s: %w", serviceRatings, err)
	}
	if ans.status >= http.StatusInternalServerError {
		n.failed.Add(1)
	}
	return ans, nil
}

// exchangeLine sends a line on conn, which it closes, and reads the answer to the
// end of the connection: closing earlier would break it off.
func exchangeLine(ctx context.Context, conn net.Conn, line string) (answer, error) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, line); err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(conn, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	if len(body) == 0 || body[len(body)-1] != '\n' {
		return answer{}, fmt.Errorf("read answer: %w", io.ErrUnexpectedEOF)
	}
	var failed lineError
	if err := json.Unmarshal(body, &failed); err != nil {
		return answer{}, fmt.Errorf("decode answer: %w", err)
	}
	if failed.Error != "" {
		return answer{status: failed.Status, body: body}, nil
	}
	return answer{status: http.StatusOK, body: body}, nil
}
