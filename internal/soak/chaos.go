package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// What can be done to the application and to the sidecar before it.
const (
	kill         = "kill" // and start again
	stall        = "stall"
	stallSidecar = "stall the sidecar"
)

// disturbance is a time in which something was not itself.
type disturbance struct {
	what     string
	from, to time.Time
}

// slack is how long after a disturbance a failure may still be owed to it: a
// sidecar waits up to 250 ms before it tries again.
const slack = 500 * time.Millisecond

// disturb kills and stalls at random until ctx ends, and leaves all running.
func disturb(ctx context.Context, m *mesh, r *rand.Rand) ([]disturbance, error) {
	var all []disturbance
	for {
		select {
		case <-time.After(500*time.Millisecond + time.Duration(r.Int64N(int64(3*time.Second)))):
		case <-ctx.Done():
			return all, nil
		}
		d := disturbance{what: []string{kill, kill, kill, stall, stallSidecar}[r.IntN(5)], from: time.Now()}
		length := time.Duration(r.Int64N(int64(2 * time.Second)))
		switch d.what {
		case stall:
			pause(m.app.cmd.Process.Pid, length)
		case stallSidecar:
			pause(m.callee.pid, length)
		case kill:
			m.app.kill()
			if r.IntN(3) == 0 { // else it comes back at once
				time.Sleep(length)
			}
			if err := m.app.start(context.WithoutCancel(ctx)); err != nil {
				return all, fmt.Errorf("restart the application: %w", err)
			}
		}
		d.to = time.Now()
		all = append(all, d)
	}
}

// pause stops a process of ours for a while.
func pause(pid int, length time.Duration) {
	_ = syscall.Kill(pid, syscall.SIGSTOP) // it runs: it is ours to end
	time.Sleep(length)
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

// owed tells whether a call's time meets a kill.
func owed(c *call, all []disturbance) bool {
	for _, d := range all {
		if d.what == kill && c.ended.After(d.from) && c.began.Before(d.to.Add(slack)) {
			return true
		}
	}
	return false
}
