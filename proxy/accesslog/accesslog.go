package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

const (
	// flushBytes and flushEvery: the buffer is written when it holds so much or
	// is so old, whichever comes first.
	flushBytes = 64 << 10
	flushEvery = time.Second
	// maxBytes is what the buffer may hold while the file is slow; a line that
	// comes then is dropped and counted.
	maxBytes = 1 << 20
	// stopGrace is how long the last write may take.
	stopGrace = time.Second
)

// Stdout as a path means the standard output.
const Stdout = "/dev/stdout"

// Options of a log.
type Options struct {
	// Path of the file, or Stdout.
	Path string
	// Format in text; empty means IstioText. A line ends as the format does.
	Format string
	// JSON by key, instead of Format: one object a line. IstioJSON is Istio's.
	JSON map[string]string
	// Logger hears of a file that cannot be written, once until it can again.
	Logger *slog.Logger
}

// Log writes lines in the background. Safe for concurrent use.
type Log struct {
	path   string
	pieces []piece
	json   []member
	log    *slog.Logger

	mu     sync.Mutex // guards the field below, never held during a write
	buffer []byte

	first   chan struct{} // the buffer is not empty any more
	full    chan struct{} // it is time to write
	reopen  atomic.Bool
	lines   atomic.Uint64
	dropped atomic.Uint64

	file atomic.Pointer[os.File] // replaced by Run's goroutine only

	// Of Run's goroutine, and of New before it.
	spare  []byte
	failed bool
}

// New compiles the format and opens the file. Lines wait for Run.
func New(o Options) (*Log, error) {
	l := &Log{path: o.Path, log: o.Logger, first: make(chan struct{}, 1), full: make(chan struct{}, 1)}
	var err error
	switch {
	case len(o.JSON) > 0:
		l.json, err = compileJSON(o.JSON)
	case o.Format != "":
		l.pieces, err = compile(o.Format)
	default:
		l.pieces, err = compile(IstioText)
	}
	if err != nil {
		return nil, err
	}
	file, err := open(o.Path)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	l.file.Store(file)
	// Room for the line that crosses the mark, so that it seldom grows.
	l.buffer, l.spare = make([]byte, 0, flushBytes+4096), make([]byte, 0, flushBytes+4096)
	return l, nil
}

func open(path string) (*os.File, error) {
	if path == Stdout {
		return os.Stdout, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
}

// Log takes the finished exchange in. It never waits for the file.
func (l *Log) Log(x *exchange.Exchange) {
	l.mu.Lock()
	before := len(l.buffer)
	if before >= maxBytes {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	if l.json != nil {
		l.buffer = appendJSON(l.buffer, l.json, x)
	} else {
		l.buffer = appendText(l.buffer, l.pieces, x)
	}
	after := len(l.buffer)
	l.mu.Unlock()
	l.lines.Add(1)
	if before == 0 {
		signal(l.first)
	}
	if before < flushBytes && after >= flushBytes {
		signal(l.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been said
	}
}

// Reopen makes the next write open the file anew, as SIGHUP asks. A file that
// was moved or removed is opened anew without being asked.
func (l *Log) Reopen() {
	l.reopen.Store(true)
	signal(l.first)
	signal(l.full)
}

// Lines counts what was taken in, Dropped what was lost because the file was
// slow or could not be written.
func (l *Log) Lines() uint64 { return l.lines.Load() }

// Dropped counts the lines lost.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Run writes until ctx ends, then what is left, and closes the file. An idle
// log does not wake up.
func (l *Log) Run(ctx context.Context) error {
	// A pipe whose reader stands still must not hold the end up. Where the
	// system knows no deadline for the file, it does.
	stop := context.AfterFunc(ctx, func() { _ = l.file.Load().SetWriteDeadline(time.Now().Add(stopGrace)) })
	defer stop()
	defer l.close()
	for {
		select {
		case <-l.first:
		case <-ctx.Done():
			l.flush()
			return nil
		}
		age := time.NewTimer(flushEvery)
		select {
		case <-age.C:
		case <-l.full:
		case <-ctx.Done():
		}
		age.Stop()
		l.flush()
	}
}

func (l *Log) close() {
	if l.path != Stdout {
		_ = l.file.Load().Close() // everything is written, or counted as lost
	}
}

// flush swaps the buffers and writes the full one.
func (l *Log) flush() {
	l.mu.Lock()
	out := l.buffer
	l.buffer = l.spare[:0]
	l.mu.Unlock()
	err := l.follow()
	if err == nil && len(out) > 0 {
		_, err = l.file.Load().Write(out)
	}
	if err != nil {
		l.dropped.Add(countLines(out))
	}
	if failed := err != nil; failed != l.failed {
		l.failed = failed
		if failed {
			l.log.Warn("access log is not written", "path", l.path, "error", err)
		} else {
			l.log.Info("access log is written again", "path", l.path)
		}
	}
	l.spare = out[:0]
	if cap(out) > 4*flushBytes { // a slow moment's size is not kept for ever
		l.spare = make([]byte, 0, flushBytes+4096)
	}
}

func countLines(out []byte) (n uint64) {
	for _, c := range out {
		if c == '\n' {
			n++
		}
	}
	return n
}

// follow opens the file anew if that was asked for or the path means another
// file by now.
func (l *Log) follow() error {
	if l.path == Stdout {
		return nil
	}
	asked := l.reopen.Swap(false)
	if !asked && !l.moved() {
		return nil
	}
	file, err := open(l.path)
	if err != nil {
		l.reopen.Store(asked) // next time, then
		return err
	}
	_ = l.file.Swap(file).Close() // every write to it has returned
	return nil
}

func (l *Log) moved() bool {
	now, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return false // what is open may still be written
	}
	have, err := l.file.Load().Stat()
	return err != nil || !os.SameFile(now, have)
}
