package workload

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/telemesh/telemesh/internal/process"
)

// ExitError carries the exit code of the program.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("the program exited with code %d", e.Code) }

// Run runs the program in the foreground behind a sidecar until it ends, and
// returns an ExitError when it ended with another code than 0. Signals go to
// the program; the sidecar ends after it. A sidecar that dies is started again.
func Run(ctx context.Context, s Spec, command []string) error {
	sidecar, err := StartSidecar(ctx, s)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	terminal := isTerminal(os.Stdin)

	name := command[0]
	if s.Pod != nil {
		defer followNames(ctx, sidecar)()
		command = s.Pod.Command(command...)
	}
	program, err := process.Start(process.Spec{
		Name: name, Path: command[0], Args: command[1:], Env: sidecar.Environment(), Foreground: true,
	})
	if err != nil {
		sidecar.Stop()
		return err
	}
	for {
		select {
		case sig := <-signals:
			// A terminal's Ctrl-C reaches the program by itself.
			if !terminal || sig != syscall.SIGINT && sig != syscall.SIGQUIT {
				program.Signal(sig)
			}
		case <-program.Done():
			sidecar.Stop()
			if code := program.ExitCode(); code != 0 {
				return &ExitError{Code: code}
			}
			return nil
		case <-sidecar.Process().Done():
			fmt.Fprintf(os.Stderr, "meshctl: the sidecar ended (%v), starting it again\n", sidecar.Process().Err())
			if err := restart(sidecar); err != nil {
				program.Stop(10 * time.Second)
				return fmt.Errorf("start the sidecar again: %w", err)
			}
		}
	}
}

func restart(s *Sidecar) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Start(ctx)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a character device too, and by no name of its own
	return err != nil || !os.SameFile(info, null)
}
