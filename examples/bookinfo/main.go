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
	transport := newTransport(http.ProxyFromEnvironment)
	if cfg.HTTP2Proxy != "" {
		transport = newHTTP2Transport(cfg.HTTP2Proxy)
	}
	defer transport.CloseIdleConnections()
	s, err := newService(cfg, transport)
	if err != nil {
		return err
	}
	defer s.close()
	web, line, err := listen(ctx, cfg)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", cfg.Service, err)
	}
	log = log.With("service", cfg.Service, "version", cfg.Version)
	log.Info("serving", "address", web.Addr().String())
	if err := s.serve(ctx, web, line); err != nil {
		return fmt.Errorf("serve %s: %w", cfg.Service, err)
	}
	log.Info("drained")
	return nil
}

// listen opens the service's ports; line is nil unless it has one.
func listen(ctx context.Context, cfg Config) (web, line net.Listener, err error) {
	var lc net.ListenConfig
	if web, err = lc.Listen(ctx, "tcp", cfg.Listen); err != nil || cfg.LineListen == "" {
		return web, nil, err
	}
	if line, err = lc.Listen(ctx, "tcp", cfg.LineListen); err != nil {
		return nil, nil, errors.Join(err, web.Close())
	}
	return web, line, nil
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

// service is one of the four.
type service struct {
	handler http.Handler
	lines   *lines // nil but for ratings
	caller  *caller
}

// newService builds the service that cfg names; close it.
func newService(cfg Config, transport http.RoundTripper) (*service, error) {
	counts := newCounts(cfg)
	caller := &caller{client: &http.Client{Transport: transport, Timeout: callTimeout}, counts: counts}
	s := &service{caller: caller}
	if cfg.DetailsGRPC != "" {
		var err error
		if caller.details, err = newDetailsClient(cfg.DetailsGRPC, cfg.DetailsHost); err != nil {
			return nil, fmt.Errorf("client of %s: %w", serviceDetails, err)
		}
	}
	mux := http.NewServeMux()
	s.handler = counts.wrap(mux)
	switch cfg.Service {
	case serviceProductpage:
		(&productpage{cfg: cfg, caller: caller}).register(mux)
	case serviceDetails:
		registerDetails(mux)
		s.handler = counts.wrap(withDetailsRPC(mux))
	case serviceReviews:
		(&reviews{cfg: cfg, caller: caller}).register(mux)
	case serviceRatings:
		r := newRatings(cfg.Fault)
		r.register(mux)
		s.lines = &lines{ratings: r, counts: counts}
	}
	return s, nil
}

// close closes the connections to other services that are the service's own.
func (s *service) close() {
	if s.caller.details != nil {
		_ = s.caller.details.Close() // it fails only when closed
	}
}

// serve answers HTTP on web, and ratings' own protocol on line unless it is nil,
// until ctx ends or one of them fails, then drains both.
func (s *service) serve(ctx context.Context, web, line net.Listener) error {
	if line == nil {
		return serve(ctx, web, s.handler)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- serve(ctx, web, s.handler) }()
	go func() { ended <- s.lines.serve(ctx, line) }()
	err := <-ended
	stop()
	return errors.Join(err, <-ended)
}
