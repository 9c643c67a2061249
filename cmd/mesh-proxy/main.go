// Command mesh-proxy is the sidecar of one workload.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/internal/process"
	"github.com/telemesh/telemesh/internal/version"
	"github.com/telemesh/telemesh/proxy"
)

func main() {
	process.UseBatchBuffers()
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "mesh-proxy:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var c proxy.Config
	var appPort int
	var logLevel, addressFile string
	cmd := &cobra.Command{
		Use:   "mesh-proxy --service NAME [--app-port PORT]",
		Short: "The sidecar of one workload: carries its requests, decides locally, reports to the hub",
		Example: `  mesh-proxy --service reviews --version v2 --app-port 9080
  mesh-proxy --service batch --outbound-address 127.0.0.1:15001     # a workload that only calls
  HTTP_PROXY=http://127.0.0.1:15001 curl http://reviews:9080/reviews/0
  mesh-proxy --service reviews --app-port 9080 --hand-over /run/reviews.sock  # again, to upgrade`,
		Long: `The sidecar of one workload: carries its requests, decides locally, reports to the hub.

SIGTERM or SIGINT drains: callers are sent elsewhere, the inbound listener closes,
requests in flight finish, and the outbound listener serves until the application is
gone; all of it within --drain-time. A second signal cuts what is left. SIGHUP opens
the access log's file anew.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if appPort != 0 {
				c.AppAddress = net.JoinHostPort("127.0.0.1", strconv.Itoa(appPort))
			}
			return run(cmd.Context(), c, logLevel, addressFile)
		},
	}
	// --version is the workload's, so the program's own is a command.
	cmd.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version of mesh-proxy", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
	})
	cmd.AddCommand(initCommand())
	cmd.CompletionOptions.DisableDefaultCmd = true
	f := cmd.Flags()
	f.StringVar(&c.Service, "service", "", "canonical service of the workload (required)")
	f.StringVar(&c.Version, "version", "", "version of the workload (default latest)")
	f.StringVar(&c.Namespace, "namespace", "", "namespace (default default)")
	f.StringVar(&c.Cluster, "cluster", "", "cluster (default local)")
	f.StringVar(&c.Workload, "workload", "", "workload (default SERVICE-VERSION)")
	f.StringVar(&c.Instance, "instance", "", "name of this replica (default WORKLOAD-HOST-PORT)")
	f.IntVar(&appPort, "app-port", 0, "port of the application on 127.0.0.1; without it the workload only calls")
	f.StringVar(&c.AppAddress, "app-address", "", "host:port of the application, if it is not on 127.0.0.1")
	cmd.MarkFlagsMutuallyExclusive("app-port", "app-address")
	f.StringVar(&c.AppProtocol, "app-protocol", "", "what the application speaks, http1 or http2; callers may speak either (default what the caller speaks)")
	f.IntVar(&c.ServicePort, "service-port", 0, "port under which callers know the service (default --app-port)")
	f.StringVar(&c.InboundAddress, "inbound-address", "", "listener for requests to the workload (default 127.0.0.1:15006)")
	f.StringVar(&c.OutboundAddress, "outbound-address", "", "listener for requests of the workload (default 127.0.0.1:15001)")
	f.StringVar(&c.OutboundNetns, "outbound-netns", "", "path of the network namespace in which the outbound listener is opened, as /run/netns/NAME")
	f.StringArrayVar(&c.OutboundTCP, "outbound-tcp", nil, "PORT=SERVICE:PORT, repeatable: connections to this port on loopback go to the service, whatever they speak")
	f.StringVar(&c.AdminAddress, "admin-address", "", "listener for metrics and health (default 127.0.0.1:15000)")
	f.StringVar(&c.HubAddress, "hub", "", "gRPC address of the hub (default 127.0.0.1:15010)")
	f.StringVar(&c.StateDir, "state-dir", "", "keeps the last known configuration for a start without hub")
	f.DurationVar(&c.DrainTime, "drain-time", 0, "after SIGTERM, time for requests in flight and for the application to end (default 5s)")
	f.StringVar(&c.HandOver, "hand-over", "", "path of a Unix socket for upgrades: a sidecar started with the same path takes the listeners over from the one that runs, which finishes what it has and exits")
	f.StringArrayVar(&c.Labels, "label", nil, "KEY=VALUE, repeatable: a label by which an AuthorizationPolicy or a RequestAuthentication may select the workload, beside app and version")
	f.StringVar(&c.RootNamespace, "root-namespace", "", "namespace whose access policies are for the whole mesh (default istio-system)")
	f.StringVar(&c.TrafficPolicyFile, "traffic-policy", "", "YAML file of DestinationRules for the services that the workload calls")
	f.IntVar(&c.DetailBytes, "detail-bytes", 4<<20, "memory that keeps headers, attempts and policy decisions of the newest requests, for the hub to ask for; 0 keeps none")
	f.StringArrayVar(&c.RedactHeaders, "redact-header", nil, "NAME, repeatable: a header whose values never leave the sidecar, as those of authorization, proxy-authorization, cookie, set-cookie and x-api-key never do")
	f.IntVar(&c.MaxHeaderBytes, "max-header-bytes", 0, "largest request head (default 65536)")
	f.StringVar(&c.AccessLog, "access-log", "", "file that takes a line for every request, - for the standard output (default none: the hub has every request)")
	f.StringVar(&c.AccessLogFormat, "access-log-format", "", "Envoy's format string, or json (default Istio's text)")
	f.StringVar(&c.TLSCert, "tls-cert", "", "PEM file of the workload's certificate, with its SPIFFE ID; read again when it changes")
	f.StringVar(&c.TLSKey, "tls-key", "", "PEM file of its key")
	f.StringVar(&c.TLSCA, "tls-ca", "", "PEM file of the authority that signs the mesh's certificates")
	f.StringVar(&c.InboundTLS, "inbound-tls", "", "what the inbound listener takes: off, permissive or strict (default permissive with a certificate)")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&addressFile, "address-file", "", "writes the bound addresses as JSON to this file once the sidecar listens")
	return cmd
}

func run(ctx context.Context, c proxy.Config, logLevel, addressFile string) error {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", logLevel)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	p, err := proxy.New(c, log, level)
	if err != nil {
		return err
	}
	if addressFile != "" {
		if err := writeAddresses(addressFile, p); err != nil {
			return err
		}
	}
	ctx, stop := onSignals(ctx, p.Abort)
	defer stop()
	go process.StayLean(ctx, p.Observed)
	return p.Run(ctx)
}

// onSignals ends the context with the first signal and calls abort with the
// second. A third ends the process as if nobody listened.
func onSignals(ctx context.Context, abort func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stopped := make(chan struct{})
	go func() {
		for _, act := range []func(){cancel, func() { signal.Stop(signals); abort() }} {
			select {
			case <-signals:
				act()
			case <-stopped:
				return
			}
		}
	}()
	return ctx, sync.OnceFunc(func() { signal.Stop(signals); close(stopped); cancel() })
}

// writeAddresses tells whoever started the sidecar on port 0 where it listens.
func writeAddresses(file string, p *proxy.Proxy) error {
	b, err := json.Marshal(map[string]string{
		"inbound": p.InboundAddress(), "outbound": p.OutboundAddress(), "admin": p.AdminAddress(), "instance": p.Instance(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o644); err != nil {
		return fmt.Errorf("write address file: %w", err)
	}
	return os.Rename(file+".new", file)
}
