package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/internal/scrape"
)

// hub is a mesh-hub process.
type hub struct {
	cmd        *exec.Cmd
	dir        string
	http, grpc string
}

// startHub starts mesh-hub on ports of its choice and waits until it answers.
func startHub(ctx context.Context, binary, dir string, args ...string) (*hub, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "addresses.json")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	h := &hub{dir: dir}
	h.cmd = exec.Command(binary, append([]string{ //nolint:gosec // our own binary
		"--data-dir", filepath.Join(dir, "data"), "--address-file", file, "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0",
		"--retention-bytes", fmt.Sprint(int64(1) << 40), "--log-level", "warn",
	}, args...)...)
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var a struct{ HTTP, GRPC string }
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, errors.Join(err, h.kill())
		}
		h.http, h.grpc = "http://"+a.HTTP, a.GRPC
		if _, err := h.status(ctx); err == nil {
			return h, nil
		}
	}
	return nil, errors.Join(errors.New("mesh-hub does not answer; its log is above"), h.kill())
}

// kill ends the process as a crash would.
func (h *hub) kill() error {
	_ = h.cmd.Process.Kill() // it may have ended
	err := h.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func (h *hub) get(ctx context.Context, path string, into any) error {
	return scrape.JSON(ctx, h.http+path, into)
}

func (h *hub) status(ctx context.Context) (s topologyv1.Status, err error) {
	err = h.get(ctx, "/api/mesh/v1/status", &s)
	return s, err
}

func (h *hub) cpu() (time.Duration, error) { return procstat.CPU(h.cmd.Process.Pid) }

// lookUp finds a request and compares the number of its records.
func (h *hub) lookUp(ctx context.Context, s sample) (time.Duration, error) {
	from := time.Now()
	var found topologyv1.Trace
	if err := h.get(ctx, fmt.Sprintf("/api/mesh/v1/requests/%x?detail=no", s.trace), &found); err != nil {
		return 0, err
	}
	took := time.Since(from)
	n := 0
	for _, hop := range found.Hops {
		if hop.Client != nil {
			n++
		}
		if hop.Server != nil {
			n++
		}
	}
	if n != s.records {
		return took, fmt.Errorf("request %x has %d records, want %d", s.trace, n, s.records)
	}
	return took, nil
}
