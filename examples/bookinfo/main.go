// Command bookinfo is Istio's Bookinfo sample as one binary: a product page
// that asks details and reviews, and reviews that ask ratings. Names, ports,
// paths, versions and forwarded headers are those of the original, so that
// what people know about Bookinfo holds here.
//
// Each service keeps its own exact counts at /stats/counts. They are the
// independent truth that the mesh's counts are compared with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	exitFailure = 1
	exitUsage   = 2

	// drainPeriod bounds how long a stopping service waits for its requests.
	drainPeriod = 5 * time.Second
	// callTimeout bounds one outgoing call, connecting and body included.
	callTimeout = 10 * time.Second
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, log, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	var usage usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "bookinfo:", err)
		os.Exit(exitUsage)
	default:
		log.Error("stopped", "error", err.Error())
		os.Exit(exitFailure)
	}
}

// run serves the service that args name until ctx ends, then drains it.
func run(ctx context.Context, log *slog.Logger, args []string, getenv func(string) string, usage io.Writer) error {
	cfg, err := parseConfig(args, getenv, usage)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", cfg.Service, err)
	}
	log = log.With("service", cfg.Service, "version", cfg.Version)
	log.Info("serving", "address", ln.Addr().String())
	transport := newTransport(http.ProxyFromEnvironment)
	if cfg.HTTP2Proxy != "" {
		transport = newHTTP2Transport(cfg.HTTP2Proxy)
	}
	defer transport.CloseIdleConnections()
	if err := serve(ctx, ln, newHandler(cfg, transport)); err != nil {
		return fmt.Errorf("serve %s: %w", cfg.Service, err)
	}
	log.Info("drained")
	return nil
}

// serve answers on ln until ctx ends, then lets the requests in flight finish
// for drainPeriod. It returns only when no handler of a drained server runs.
func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPeriod)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain: %w", err), srv.Close())
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// newHandler builds the service that cfg names.
func newHandler(cfg Config, transport http.RoundTripper) http.Handler {
	counts := newCounts(cfg)
	caller := &caller{client: &http.Client{Transport: transport, Timeout: callTimeout}, counts: counts}
	mux := http.NewServeMux()
	switch cfg.Service {
	case serviceProductpage:
		(&productpage{cfg: cfg, caller: caller}).register(mux)
	case serviceDetails:
		registerDetails(mux)
	case serviceReviews:
		(&reviews{cfg: cfg, caller: caller}).register(mux)
	case serviceRatings:
		newRatings(cfg.Fault).register(mux)
	}
	return counts.wrap(mux)
}
