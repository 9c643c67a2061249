// Package process starts the mesh's programs as child processes, waits until
// they listen and makes sure that none outlives its parent.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Name string // for messages
	Path string
	Args []string
	// Env is added to the parent's environment.
	Env []string
	// Output receives standard output and error.
	Output io.Writer
	// Foreground leaves the child its parent's terminal, stdin and stdout.
	Foreground bool
}

// Process is a running child. All methods are safe for concurrent use.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex // guards the field below
	err error
}

// Start starts a child in a process group of its own, so that the terminal's
// Ctrl-C reaches the parent alone, which stops its children in order. The
// kernel ends the child if the parent dies.
func Start(s Spec) (*Process, error) {
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = s.Output, s.Output
	if s.Foreground {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !s.Foreground, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{spec: s, cmd: cmd, done: make(chan struct{})}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why the child ended; nil while it runs or when it exited with 0.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// ExitCode of an ended child; 128 plus the signal if one ended it, as shells
// have it.
func (p *Process) ExitCode() int {
	<-p.done
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// PID of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal; a child that has ended takes none.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the child at once and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the child to end and kills it after grace.
func (p *Process) Stop(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// ErrEnded says that a child ended before it was ready.
var ErrEnded = errors.New("ended before it was ready")

// Addresses waits for the file in which a child says where it listens.
func (p *Process) Addresses(ctx context.Context, file string) (map[string]string, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(file); err == nil {
			var addresses map[string]string
			if err := json.Unmarshal(b, &addresses); err != nil {
				return nil, fmt.Errorf("%s wrote %s: %w", p.spec.Name, file, err)
			}
			return addresses, nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return nil, fmt.Errorf("%s %w: %v", p.spec.Name, ErrEnded, p.Err())
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", p.spec.Name, ctx.Err())
		}
	}
}

// Binary finds a program of the mesh beside the running one, else in PATH.
func Binary(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), name)
			if _, err := os.Stat(beside); err == nil {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor in PATH: run make build", name)
	}
	return path, nil
}
