package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// target is one proxy in one configuration.
type target struct {
	name     string
	protocol string
	// config is written to a file whose name replaces CONF in argv. In both,
	// PORT is where to listen and BACKEND where to forward to; LOG is a file or
	// a socket that takes logs.
	config string
	argv   []string
	mesh   bool
}

const nginxConf = `user root; daemon off; pid DIR/nginx.pid; worker_processes 1; error_log /dev/null crit;
events { worker_connections 8192; }
http {
  log_format ids '$remote_addr [$time_local] "$request" $status $bytes_sent $request_time $upstream_response_time "$http_user_agent" $request_id $upstream_addr';
  access_log ACCESS;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  keepalive_requests 100000000; keepalive_timeout 300;
  upstream app { server BACKEND; keepalive 512; keepalive_requests 100000000; }
  server { listen 127.0.0.1:PORT LISTEN; location / { PASS } }
}
`

func nginx(name, protocol, access, listen, pass string) target {
	conf := strings.NewReplacer("ACCESS", access, "LISTEN", listen, "PASS", pass).Replace(nginxConf)
	return target{name: name, protocol: protocol, config: conf, argv: []string{"nginx", "-c", "CONF", "-p", "DIR"}}
}

const (
	nginxHTTP = "proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";"
	// With a log, requests can be told apart in it.
	nginxHTTPLog = nginxHTTP + " proxy_set_header X-Request-Id $request_id;"
	nginxGRPC    = "grpc_pass grpc://app;"
)

const haproxyConf = `global
  nbthread 1
  maxconn 4000
  LOG
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
  LOGGING
frontend in
  bind 127.0.0.1:PORT PROTO
  IDS
  default_backend app
backend app
  server s BACKEND PROTO
`

func haproxy(name, protocol, proto, log, logging, ids string) target {
	conf := strings.NewReplacer("  IDS", ids, "  LOGGING", "  "+logging, "  LOG\n", "  "+log+"\n", "PROTO", proto).Replace(haproxyConf)
	return target{name: name, protocol: protocol, config: conf, argv: []string{"haproxy", "-db", "-f", "CONF"}}
}

// targets are all that is measured, ours first.
func targets() []target {
	return []target{
		{name: "mesh-proxy", protocol: "http1", mesh: true},
		nginx("nginx", "http1", "off", "", nginxHTTP),
		nginx("nginx-log", "http1", "DIR/access.log ids buffer=64k flush=1s", "", nginxHTTPLog),
		haproxy("haproxy-log", "http1", "", "log LOGSOCKET local0", "log global\n  option httplog",
			"  unique-id-format %[uuid()]\n  unique-id-header X-Request-Id"),
		{name: "mesh-proxy", protocol: "grpc", mesh: true},
		nginx("nginx", "grpc", "off", "http2", nginxGRPC),
		haproxy("haproxy", "grpc", "proto h2", "", "", ""),
		{name: "nghttpx", protocol: "grpc", argv: []string{
			"nghttpx", "--workers=1", "--frontend=127.0.0.1,PORT;no-tls", "--backend=BACKENDHOST,BACKENDPORT;;proto=h2", "--errorlog-file=/dev/null", "--conf=/dev/null",
		}},
	}
}

// proxy is a target that runs.
type proxy struct {
	cmd     *exec.Cmd
	address string
}

// start runs a target on core 0 and waits until it accepts connections.
func (b *bench) start(ctx context.Context, t target, backend string) (*proxy, error) {
	dir, err := os.MkdirTemp(b.dir, t.name)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &proxy{address: "127.0.0.1:" + port}
	argv := t.argv
	if t.mesh {
		host, hostPort, _ := net.SplitHostPort(backend)
		if host != "127.0.0.1" {
			return nil, fmt.Errorf("backend at %s", backend)
		}
		argv = []string{
			filepath.Join(b.o.bin, "mesh-proxy"), "--service", "app", "--app-port", hostPort, "--inbound-address", p.address,
			"--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--hub", b.hub, "--address-file", filepath.Join(dir, "addresses"), "--log-level", "error",
		}
	}
	backendHost, backendPort, _ := net.SplitHostPort(backend)
	fill := strings.NewReplacer("DIR", dir, "LOGSOCKET", b.logSocket, "CONF", filepath.Join(dir, "conf"), "BACKENDHOST", backendHost,
		"BACKENDPORT", backendPort, "BACKEND", backend, "PORT", port).Replace
	if t.config != "" {
		if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(fill(t.config)), 0o600); err != nil {
			return nil, err
		}
	}
	args := []string{"-c", b.proxyCores}
	for _, a := range argv {
		args = append(args, fill(a))
	}
	if p.cmd, err = b.spawn(ctx, "taskset", args...); err != nil {
		return nil, err
	}
	if err := waitFor(ctx, p.address); err != nil {
		p.close()
		return nil, fmt.Errorf("start %s: %w", t.name, err)
	}
	return p, nil
}

func (p *proxy) close() { end(p.cmd) }

// command makes a process in a group of its own, which end ends.
func (b *bench) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = b.stderr
	cmd.WaitDelay = time.Second
	return cmd
}

func (b *bench) spawn(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	cmd := b.command(ctx, name, args...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return cmd, nil
}

// end stops a process and its children.
func end(cmd *exec.Cmd) {
	if cmd == nil || cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
}

func waitFor(ctx context.Context, address string) error {
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(25 * time.Millisecond):
		}
	}
	return errors.New("it does not listen")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// addresses reads what a process of ours wrote once it listened.
func addresses(ctx context.Context, file string) (map[string]string, error) {
	for range 400 {
		if text, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(text)) > 0 {
			var a map[string]string
			return a, json.Unmarshal(text, &a)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(25 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("%s was not written", filepath.Base(file))
}
