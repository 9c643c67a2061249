// Command meshctl looks into the mesh and starts it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/command"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/start"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends what does not heed the first.
	defer context.AfterFunc(ctx, stop)()
	streams := command.Standard()
	root := command.Root(streams)
	root.AddCommand(start.Commands(streams)...)
	return command.Execute(ctx, root, os.Stderr)
}
