package accesslog

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// running is a log that writes to path until the test, or stop, ends it.
func running(t *testing.T, path string) (l *Log, stop func()) {
	t.Helper()
	l, err := New(Options{Path: path, Format: "%REQ(:PATH)%\n", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return l, stop
}

func line(path string) *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Record.Path = path
	return x
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for what another goroutine does; how long is not judged.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestEveryLineIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, stop := running(t, path)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				l.Log(line(fmt.Sprintf("/%d/%d", g, i)))
			}
		})
	}
	wg.Wait()
	stop()
	got := strings.Split(strings.TrimSuffix(read(t, path), "\n"), "\n")
	seen := map[string]bool{}
	for _, s := range got {
		seen[s] = true
	}
	if len(got) != 4000 || len(seen) != 4000 || l.Lines() != 4000 || l.Dropped() != 0 {
		t.Errorf("%d lines, %d of them different, %d counted, %d dropped", len(got), len(seen), l.Lines(), l.Dropped())
	}
}

func TestLinesAreWrittenWithoutAnEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := running(t, path)
	l.Log(line("/a"))
	eventually(t, "the line shows after a while", func() bool { return read(t, path) == "/a\n" })
	l.Log(line("/" + strings.Repeat("b", flushBytes)))
	eventually(t, "a full buffer shows", func() bool { return len(read(t, path)) > flushBytes })
}

func TestAMovedFileIsOpenedAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, _ := running(t, path)
	l.Log(line("/old"))
	eventually(t, "the first line", func() bool { return read(t, path) == "/old\n" })
	if err := os.Rename(path, filepath.Join(dir, "log.1")); err != nil {
		t.Fatal(err)
	}
	l.Log(line("/new"))
	eventually(t, "a new file", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == "/new\n"
	})
	if got := read(t, filepath.Join(dir, "log.1")); got != "/old\n" {
		t.Errorf("the moved file holds %q", got)
	}
}

func TestReopenIsAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, _ := running(t, path)
	if err := os.Rename(path, filepath.Join(dir, "log.1")); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	eventually(t, "the file without a line", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

func TestASlowFileCostsLinesAndNoTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // never read: the pipe fills
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l, stop := running(t, path)
	long := line("/" + strings.Repeat("x", 1000))
	for l.Dropped() == 0 {
		if l.Log(long); l.Lines() > 20_000 {
			t.Fatal("20 MB were taken in and nothing dropped")
		}
	}
	l.mu.Lock()
	if len(l.buffer) > maxBytes+2000 {
		t.Errorf("the buffer holds %d bytes", len(l.buffer))
	}
	l.mu.Unlock()
	stop() // must return although nobody reads
}

func TestAFileThatCannotBeOpenedIsRefused(t *testing.T) {
	if _, err := New(Options{Path: filepath.Join(t.TempDir(), "no", "log")}); err == nil {
		t.Error("New takes a path in a folder that is not there")
	}
	if _, err := New(Options{Path: filepath.Join(t.TempDir(), "log"), Format: "%X%"}); err == nil {
		t.Error("New takes a bad format")
	}
}

func TestAFileThatVanishedForGoodIsCounted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, stop := running(t, filepath.Join(dir, "log"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Log(line("/a"))
	l.Log(line("/b"))
	stop()
	if l.Dropped() != 2 {
		t.Errorf("%d dropped, want 2", l.Dropped())
	}
}

func BenchmarkLog(b *testing.B) {
	l, err := New(Options{Path: os.DevNull, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	x := answered()
	b.ReportAllocs()
	for b.Loop() {
		l.Log(x)
	}
	cancel()
	<-done
}
