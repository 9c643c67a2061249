// Package start is the commands of meshctl that start processes: up, demo and
// run.
package start

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/command"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/demo"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/workload"
)

const (
	defaultHTTP  = "127.0.0.1:15080"
	defaultGRPC  = "127.0.0.1:15010"
	startWithin  = 20 * time.Second
	defaultRate  = 20
	envHubGRPC   = "MESHCTL_HUB_GRPC"
	dataDirUsage = "directory for data and logs"
)

// Commands are up, demo and run.
func Commands(s command.Streams) []*cobra.Command {
	return []*cobra.Command{upCommand(s), demoCommand(s), runCommand(s)}
}

func usage(err error) error { return &command.ExitError{Code: command.CodeUsage, Err: err} }

// noArguments refuses arguments as wrong use.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args))
	}
	return nil
}

func upCommand(s command.Streams) *cobra.Command {
	o := demo.HubOptions{Log: s.Err}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a hub on this machine",
		Long:  "Starts a hub on loopback with its data under your home directory and runs until Ctrl-C. Sidecars join it by themselves.",
		Example: `  meshctl up
  meshctl up --policy-dir ./policies
  meshctl up --data-dir /tmp/mesh --http-address 127.0.0.1:8080`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.DataDir == "" {
				base, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("no place for data (%w): name one with --data-dir", err)
				}
				o.DataDir = filepath.Join(base, "telemesh", "hub")
			}
			return up(cmd, s, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", dataDirUsage+" (default in the user's cache directory)")
	f.StringVar(&o.PolicyDir, "policy-dir", "", "directory of TrafficPolicy files")
	f.StringVar(&o.HTTPAddress, "http-address", defaultHTTP, "UI, APIs and /metrics")
	f.StringVar(&o.GRPCAddress, "grpc-address", defaultGRPC, "where sidecars report")
	return cmd
}

func up(cmd *cobra.Command, s command.Streams, o demo.HubOptions) error {
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	starting, cancel := context.WithTimeout(cmd.Context(), startWithin)
	defer cancel()
	hub, err := demo.StartHub(starting, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "hub is up\n\n  UI         %s\n  sidecars   %s\n  data       %s\n\nPut a program behind a sidecar:\n  meshctl run --service NAME --port PORT -- COMMAND\n\nCtrl-C stops it.\n",
		hub.URL(), hub.GRPC, o.DataDir)
	select {
	case <-cmd.Context().Done():
		hub.Stop()
		return nil
	case <-hub.Process().Done():
		return fmt.Errorf("the hub ended: %w; its log is above", hub.Process().Err())
	}
}

func demoCommand(s command.Streams) *cobra.Command {
	o := demo.Options{Out: s.Out, ErrOut: s.Err}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole mesh: a hub, Bookinfo behind sidecars, and a load",
		Long: `Starts a hub, Istio's Bookinfo as six processes behind real sidecars, and a load,
prints the UI's address and a request ID to look up, and runs until Ctrl-C or for
--duration. A bounded run ends with an account: for each edge the requests as the
services themselves, the sidecars, the hub's graph and PromQL counted them.`,
		Example: `  meshctl demo
  meshctl demo --fault error=10%,delay=200ms:5%
  meshctl demo --duration 30s --json --chaos hub`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return usage(err)
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Duration, "duration", 0, "length of the load (default until Ctrl-C)")
	f.BoolVar(&o.JSON, "json", false, "print the account as one JSON object on the last line; needs --duration")
	f.BoolVar(&o.HTTP2, "http2", false, "have the services call each other over HTTP/2")
	f.BoolVar(&o.Mixed, "mixed", false, "have the services call each other over HTTP/1.1, HTTP/2, gRPC and plain TCP, each edge another protocol")
	f.StringVar(&o.Chaos, "chaos", "", "kill hub, sidecar or service in the middle and start it again")
	f.Float64Var(&o.Rate, "rate", defaultRate, "requests a second to productpage")
	f.StringVar(&o.Fault, "fault", "", "make ratings fail or slow, as in error=10%,delay=200ms:5%")
	f.StringVar(&o.PolicyDir, "policy-dir", "", "directory of TrafficPolicy files")
	f.StringVar(&o.DataDir, "data-dir", "", dataDirUsage+" (default a temporary one)")
	f.StringVar(&o.HTTPAddress, "http-address", defaultHTTP, "UI and APIs; another port is taken if this one is in use")
	f.StringVar(&o.GRPCAddress, "grpc-address", defaultGRPC, "where sidecars report; likewise")
	f.StringVar(&o.ReadyFile, "ready-file", "", "write addresses and a request ID as JSON once everything runs")
	return cmd
}

func runCommand(s command.Streams) *cobra.Command {
	spec := workload.Spec{Log: s.Err}
	var transparent bool
	cmd := &cobra.Command{
		Use:   "run --service NAME [--version V] [--port P] -- COMMAND [ARG...]",
		Short: "Run a program behind a sidecar",
		Long: `Starts a sidecar and COMMAND behind it. COMMAND gets HTTP_PROXY, PORT and SERVICE_VERSION
in its environment; signals go to it, and its exit code is meshctl's. Others call it by NAME.

With --transparent, COMMAND needs to know of no proxy: it runs in a network of its own
(Linux, root) in which the kernel brings its connections to the sidecar and the names of
the mesh's services resolve.`,
		Example: `  meshctl run --service web --port 8080 -- ./web --listen :8080
  meshctl run --service api --version v2 --port 0 -- sh -c 'exec ./api --port $PORT'
  meshctl run --service client -- curl -s http://web:8080/
  sudo meshctl run --transparent --service client -- curl -s http://web:8080/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := complete(cmd, &spec); err != nil {
				return err
			}
			if len(args) == 0 {
				return usage(errors.New("no program to run: put it behind --, as in meshctl run --service web --port 8080 -- ./web"))
			}
			dir, err := os.MkdirTemp("", "telemesh-run-")
			if err != nil {
				return fmt.Errorf("create a directory for the sidecar: %w", err)
			}
			defer os.RemoveAll(dir)
			spec.Dir = dir
			run := workload.Run
			if transparent {
				run = workload.RunTransparent
			}
			err = run(cmd.Context(), spec, args)
			var ended *workload.ExitError
			if errors.As(err, &ended) {
				return &command.ExitError{Code: ended.Code}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Service, "service", "", "name by which others call it (required)")
	f.StringVar(&spec.Version, "version", "v1", "version")
	f.StringVar(&spec.Namespace, "namespace", "default", "namespace")
	f.IntVar(&spec.Port, "port", -1, "port on 127.0.0.1 where the program listens; 0 chooses one and says it in $PORT; none for a program that only calls")
	f.IntVar(&spec.ServicePort, "service-port", 0, "port by which others call it (default --port)")
	f.StringVar(&spec.Hub, "hub-grpc", "", "gRPC address of the hub (default $"+envHubGRPC+", else "+defaultGRPC+")")
	f.StringArrayVar(&spec.OutboundTCP, "outbound-tcp", nil, "PORT=SERVICE:PORT, repeatable: the program's connections to 127.0.0.1:PORT go to the service, whatever they speak")
	f.BoolVar(&transparent, "transparent", false, "capture the program's connections in a network of its own instead of HTTP_PROXY (Linux, root)")
	f.SetInterspersed(false)
	return cmd
}

// complete fills what was left out.
func complete(cmd *cobra.Command, s *workload.Spec) error {
	if s.Service == "" {
		return usage(errors.New("--service: a name is required"))
	}
	if s.Hub == "" {
		s.Hub = os.Getenv(envHubGRPC)
	}
	if s.Hub == "" {
		s.Hub = defaultGRPC
	}
	if s.Port == 0 {
		var err error
		if s.Port, err = workload.FreePort(); err != nil {
			return err
		}
	}
	if s.ServicePort == 0 && s.Port > 0 {
		s.ServicePort = s.Port
	}
	return cmd.Context().Err()
}
