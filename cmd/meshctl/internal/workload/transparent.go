package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/pod"
)

// namesWithin is how long a start waits for the mesh's names. A program starts
// without them if there is no hub.
const namesWithin = time.Second

// RunTransparent is Run in a network of the program's own: the kernel brings its
// connections to the sidecar, and it is told nothing of a proxy. The network is
// gone when RunTransparent returns.
func RunTransparent(ctx context.Context, s Spec, command []string) (err error) {
	making, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if s.Pod, err = pod.Create(making); err != nil {
		return fmt.Errorf("make a network for the program: %w", err)
	}
	defer func() { err = errors.Join(err, s.Pod.Close()) }()
	if err := s.Pod.Capture(making); err != nil {
		return fmt.Errorf("capture the program's connections: %w", err)
	}
	if s.Port > 0 {
		if err := s.Pod.Expose(making, s.Port); err != nil {
			return fmt.Errorf("let the sidecar reach the program: %w", err)
		}
	}
	return Run(ctx, s, command)
}

// followNames gives the program's network the mesh's names for as long as the
// sidecar runs, and waits for the first ones. stop ends it.
func followNames(ctx context.Context, s *Sidecar) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	first := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() { s.spec.Pod.FollowServices(ctx, s.Admin, s.spec.Namespace, first) })
	select {
	case <-first:
	case <-time.After(namesWithin):
	}
	return func() {
		cancel()
		following.Wait()
	}
}
