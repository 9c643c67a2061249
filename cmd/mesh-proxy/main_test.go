package main

import (
	"context"
	"syscall"
	"testing"
	"time"
)

func TestFirstSignalDrainsAndTheSecondCuts(t *testing.T) {
	aborted := make(chan struct{})
	ctx, stop := onSignals(context.Background(), func() { close(aborted) })
	defer stop()
	wait := func(what string, done <-chan struct{}) {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal(what)
		}
	}
	wait("the first signal ended nothing", ctx.Done())
	select {
	case <-aborted:
		t.Fatal("the first signal cut")
	default:
	}
	wait("the second signal did not cut", aborted)
	stop()
	stop() // twice is safe
}
