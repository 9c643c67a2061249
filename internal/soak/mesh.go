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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/telemesh/telemesh/internal/scrape"
)

// mesh is the processes under test.
type mesh struct {
	o              options
	dir            string
	stderr         io.Writer
	hub            map[string]string // addresses by role
	callee, caller *sidecar
	app            *application
	procs          []*exec.Cmd
	warm           int // requests that were sent before the first one that counts
}

// sidecar is a running mesh-proxy.
type sidecar struct {
	name    string
	pid     int
	address map[string]string // by role
}

func startMesh(ctx context.Context, o options) (*mesh, error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	m := &mesh{o: o, dir: dir, stderr: io.Discard}
	if os.Getenv("VERBOSE") != "" {
		m.stderr = os.Stderr
	}
	if err := m.start(ctx); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

func (m *mesh) start(ctx context.Context) (err error) {
	if m.app, err = startApplication(ctx, filepath.Join(m.dir, "seen")); err != nil {
		return err
	}
	if _, m.hub, err = m.run(ctx, "mesh-hub", "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--data-dir", filepath.Join(m.dir, "data")); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(m.app.address)
	if err != nil {
		return err
	}
	if m.callee, err = m.sidecar(ctx, host, "--app-port", port, "--service-port", "80"); err != nil {
		return err
	}
	if m.caller, err = m.sidecar(ctx, "shop", "--outbound-tcp", "0="+host+":80"); err != nil {
		return err
	}
	if m.caller.address["opaque"], err = opaquePort(m.caller.address["admin"]); err != nil {
		return err
	}
	return m.awaitRoute(ctx)
}

func (m *mesh) sidecar(ctx context.Context, service string, flags ...string) (*sidecar, error) {
	if m.o.tls != "" {
		flags = append(flags, "--tls-cert", filepath.Join(m.o.tls, "cert.pem"), "--tls-key", filepath.Join(m.o.tls, "key.pem"), "--tls-ca", filepath.Join(m.o.tls, "ca.pem"))
	}
	cmd, address, err := m.run(ctx, "mesh-proxy", append([]string{
		"--service", service, "--hub", m.hub["grpc"], "--log-level", "error",
		"--inbound-address", "127.0.0.1:0", "--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	return &sidecar{name: service, pid: cmd.Process.Pid, address: address}, nil
}

// run starts a program of ours and waits until it says where it listens.
func (m *mesh) run(ctx context.Context, name string, args ...string) (*exec.Cmd, map[string]string, error) {
	file := filepath.Join(m.dir, fmt.Sprintf("addresses%d", len(m.procs)))
	cmd := exec.CommandContext(ctx, filepath.Join(m.o.bin, name), append(args, "--address-file", file)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = m.stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	m.procs = append(m.procs, cmd)
	for range 400 {
		var address map[string]string
		if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &address) == nil {
			return cmd, address, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return nil, nil, fmt.Errorf("start %s: it does not say where it listens", name)
}

// stop ends what was started, the callers first.
func (m *mesh) stop() {
	for i := len(m.procs) - 1; i >= 0; i-- {
		p := m.procs[i]
		_ = p.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(15*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait()
		late.Stop()
	}
	if m.app != nil {
		m.app.kill()
	}
	_ = os.RemoveAll(m.dir) // a temporary folder
}

// awaitRoute waits until the caller's sidecar finds the application.
func (m *mesh) awaitRoute(ctx context.Context) error {
	for i := range 400 {
		one := call{id: fmt.Sprintf("warm-%d", i), method: http.MethodGet}
		m.warm++
		c := &caller{address: m.caller.address["outbound"], once: true}
		if c.do(&one, "/echo", nil, false, patience); one.ok {
			return nil
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the caller's sidecar does not find the application")
}

func opaquePort(admin string) (string, error) {
	var dump struct{ OutboundTCP []struct{ Address string } }
	if err := scrape.JSON(context.Background(), "http://"+admin+"/config_dump", &dump); err != nil {
		return "", err
	}
	if len(dump.OutboundTCP) != 1 {
		return "", errors.New("the sidecar shows no --outbound-tcp")
	}
	return dump.OutboundTCP[0].Address, nil
}

// application is this program again, as the process behind the callee's
// sidecar. It comes back at the same address.
type application struct {
	address, seen string
	cmd           *exec.Cmd
}

func startApplication(ctx context.Context, seen string) (*application, error) {
	a := &application{address: "127.0.0.1:0", seen: seen}
	return a, a.start(ctx)
}

// start returns when the application listens.
func (a *application) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	a.cmd = exec.CommandContext(ctx, self, "-app", a.address, "-seen", a.seen)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := a.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start the application: %w", err)
	}
	a.address = strings.TrimSpace(line)
	return nil
}

func (a *application) kill() {
	_ = a.cmd.Process.Kill() // it may be gone
	_ = a.cmd.Wait()
}
