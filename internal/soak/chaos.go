package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// disturbance is a time in which the application was not itself.
type disturbance struct {
	stall    bool // stopped and continued; else killed and started again
	from, to time.Time
}

// slack is how long after a disturbance a failure may still be owed to it: a
// sidecar waits up to 250 ms before it tries again.
const slack = 500 * time.Millisecond

// disturb kills and stalls the application at random until ctx ends, and leaves
// it running.
func disturb(ctx context.Context, m *mesh, r *rand.Rand) ([]disturbance, error) {
	var all []disturbance
	for {
		select {
		case <-time.After(500*time.Millisecond + time.Duration(r.Int64N(int64(3*time.Second)))):
		case <-ctx.Done():
			return all, nil
		}
		d := disturbance{stall: r.IntN(5) < 1, from: time.Now()}
		length := time.Duration(r.Int64N(int64(2 * time.Second)))
		if d.stall {
			_ = m.app.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(length)
			_ = m.app.cmd.Process.Signal(syscall.SIGCONT)
		} else {
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

// owed tells whether a call's time meets a kill.
func owed(c *call, all []disturbance) bool {
	for _, d := range all {
		if !d.stall && c.ended.After(d.from) && c.began.Before(d.to.Add(slack)) {
			return true
		}
	}
	return false
}
