package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/telemesh/telemesh/internal/procstat"
)

const (
	idleConns = 1000
	// settleTime is when a sidecar has given back what it had only for its start,
	// or for connections that have fallen silent.
	settleTime = 12 * time.Second
)

// idle is what a sidecar costs that has nothing to do: memory at its start, after
// 1,000 connections of one request each, and CPU without a request.
func idle(ctx context.Context, o options) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	for _, t := range []target{{name: "mesh-proxy", mesh: true}, nginx("nginx", "http1", "off", "", nginxHTTP)} {
		if err := b.idle(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func (b *bench) idle(ctx context.Context, t target) error {
	p, err := b.start(ctx, t, b.backends["http1"])
	if err != nil {
		return err
	}
	defer p.close()
	pid := p.cmd.Process.Pid
	time.Sleep(settleTime)
	fmt.Printf("%-10s resident %.1f MB without a connection\n", t.name, procstat.RSS(pid)/1e6)
	before, err := procstat.CPU(pid)
	if err != nil {
		return err
	}
	const watch = 20 * time.Second
	time.Sleep(watch)
	after, err := procstat.CPU(pid)
	if err != nil {
		return err
	}
	fmt.Printf("%-10s CPU %.3f %% of a core without a request\n", t.name, 100*(after-before).Seconds()/watch.Seconds())
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close() // of no more use
		}
	}()
	for range idleConns {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if err := once(c); err != nil {
			return err
		}
	}
	time.Sleep(settleTime)
	fmt.Printf("%-10s resident %.1f MB with %d idle connections\n", t.name, procstat.RSS(pid)/1e6, len(conns))
	for _, c := range conns { // all of them still serve
		if err := once(c); err != nil {
			return err
		}
	}
	return nil
}

// once makes one request.
func once(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // an error shows below
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
