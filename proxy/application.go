package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/telemesh/telemesh/internal/process"
)

const (
	// probeEvery is how often the application's port is tried (at
	// process.UntilBeat), goneEvery while its end is waited for.
	probeEvery = 2 * time.Second
	goneEvery  = 100 * time.Millisecond
)

// appState is what the sidecar knows of the workload's own process.
type appState struct {
	reachable atomic.Bool
}

// probe tries the application's port, so that a dead application shows without
// traffic and a new one is found again.
func (p *Proxy) probe(ctx context.Context) error {
	if p.config.AppAddress == "" {
		p.setAppHealth(true, "")
		return nil
	}
	for fast := 0; ; fast++ {
		switch err := p.dialApplication(ctx); {
		case err == nil:
			p.setAppHealth(true, "")
		case ctx.Err() == nil:
			p.setAppHealth(false, err.Error())
		}
		wait := process.UntilBeat(probeEvery)
		if fast < 50 && !p.app.reachable.Load() { // a starting application is found at once
			wait = 50 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Proxy) dialApplication(ctx context.Context) error {
	if known, err := connects(p.config.AppAddress); known {
		return err
	}
	dialer := net.Dialer{Timeout: probeEvery}
	c, err := dialer.DialContext(ctx, "tcp", p.config.AppAddress)
	if err == nil {
		_ = c.Close() // it answered, which is all that was asked
	}
	return err
}

// connects tries an address at the least cost, for that happens every second of
// a sidecar's life. Known is false if it takes more than that to find out: a host
// name, or an answer that does not come at once.
func connects(address string) (known bool, err error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return false, nil
	}
	family, sockaddr := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Unmap().Is4() {
		family, sockaddr = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, nil //nolint:nilerr // the long way will say
	}
	defer func() { _ = syscall.Close(fd) }() // it answered, which is all that was asked
	// On loopback the kernel answers within the first call; the second says what.
	if err = syscall.Connect(fd, sockaddr); err == syscall.EINPROGRESS {
		err = syscall.Connect(fd, sockaddr)
	}
	switch err {
	case nil:
		return true, nil
	case syscall.ECONNREFUSED:
		return true, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return false, nil
}

func (p *Proxy) setAppHealth(reachable bool, detail string) {
	if p.app.reachable.Swap(reachable) != reachable {
		p.log.Info("application reachability changed", "reachable", reachable, "detail", detail)
		p.tellHealth(detail)
	}
}

// tellHealth tells the hub whether the workload shall have requests. One that
// drains shall not, whatever its application says.
func (p *Proxy) tellHealth(detail string) {
	p.life.mu.Lock()
	defer p.life.mu.Unlock()
	if p.life.phase == Serving || p.life.phase == Starting {
		p.discovery.SetHealth(p.app.reachable.Load(), detail)
	} else {
		p.discovery.SetHealth(false, "draining")
	}
}

// awaitApplicationsEnd waits until the application's port takes no connection,
// or until ctx ends. One that does not answer in time may only be busy.
func (p *Proxy) awaitApplicationsEnd(ctx context.Context) {
	if p.config.AppAddress == "" {
		return
	}
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		err := p.dialApplication(ctx)
		var slow net.Error
		if err != nil && ctx.Err() == nil && !(errors.As(err, &slow) && slow.Timeout()) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
