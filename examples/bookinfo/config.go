package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
)

const (
	serviceProductpage = "productpage"
	serviceDetails     = "details"
	serviceReviews     = "reviews"
	serviceRatings     = "ratings"

	defaultPort = "9080"
)

// services lists the subcommands and the versions that each comes in.
func services() map[string][]string {
	return map[string][]string{
		serviceProductpage: {"v1"},
		serviceDetails:     {"v1"},
		serviceReviews:     {"v1", "v2", "v3"},
		serviceRatings:     {"v1"},
	}
}

// usageError is a mistake on the command line or in the environment.
type usageError struct{ error }

// Config is what a person chooses about one service.
type Config struct {
	Service string
	Version string
	Listen  string // host:port
	PodName string // what the service calls its instance
	// Authorities (host:port) of the services that this one calls.
	DetailsHost string
	ReviewsHost string
	RatingsHost string
	Fault       Fault
	// HTTP2Proxy is the host:port of the proxy that calls go to over HTTP/2
	// without TLS; empty for HTTP/1.1 as the environment says.
	HTTP2Proxy string
	// DetailsGRPC is the host:port that calls of details go to over gRPC, a proxy
	// or the service itself; empty for HTTP.
	DetailsGRPC string
	// RatingsTCP is the host:port at which ratings' own protocol is spoken; empty
	// for HTTP.
	RatingsTCP string
	// LineListen is the host:port to serve ratings' own protocol on, if any.
	LineListen string
}

// parseConfig reads the subcommand and its flags. A flag wins over its
// environment variable, and that over the default.
func parseConfig(args []string, getenv func(string) string, usage io.Writer) (Config, error) {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprintln(usage, "usage: bookinfo productpage|details|reviews|ratings [flags]")
		if len(args) > 0 {
			return Config{}, flag.ErrHelp
		}
		return Config{}, usageError{errors.New("name a service: productpage, details, reviews or ratings")}
	}
	versions, ok := services()[args[0]]
	if !ok {
		return Config{}, usageError{fmt.Errorf("unknown service %q: want productpage, details, reviews or ratings", args[0])}
	}
	env := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	cfg := Config{Service: args[0]}
	fs := flag.NewFlagSet("bookinfo "+cfg.Service, flag.ContinueOnError)
	fs.SetOutput(usage)
	listen := env("LISTEN", net.JoinHostPort("127.0.0.1", env("PORT", defaultPort)))
	fs.StringVar(&cfg.Listen, "listen", listen, "address to serve on (LISTEN, or PORT for the port alone)")
	fs.StringVar(&cfg.Version, "version", env("SERVICE_VERSION", "v1"), "version of the service (SERVICE_VERSION)")
	fs.StringVar(&cfg.PodName, "pod-name", getenv("POD_NAME"), "name of this instance, by default service-version (POD_NAME)")
	http2 := fs.Bool("http2", getenv("HTTP2") != "", "call other services over HTTP/2 without TLS, through the proxy of HTTP_PROXY (HTTP2)")
	fault, rpc := "", false
	switch cfg.Service {
	case serviceProductpage:
		fs.StringVar(&cfg.DetailsHost, "details-host", env("DETAILS_HOSTNAME", serviceDetails), "host:port of details (DETAILS_HOSTNAME)")
		fs.StringVar(&cfg.ReviewsHost, "reviews-host", env("REVIEWS_HOSTNAME", serviceReviews), "host:port of reviews (REVIEWS_HOSTNAME)")
		fs.StringVar(&cfg.RatingsHost, "ratings-host", env("RATINGS_HOSTNAME", serviceRatings), "host:port of ratings (RATINGS_HOSTNAME)")
		fs.BoolVar(&rpc, "details-grpc", getenv("DETAILS_GRPC") != "", "call details over gRPC, through the proxy of HTTP_PROXY if there is one (DETAILS_GRPC)")
	case serviceReviews:
		fs.StringVar(&cfg.RatingsTCP, "ratings-tcp", getenv("RATINGS_TCP"), "host:port where ratings speaks its line protocol, to call it so (RATINGS_TCP)")
		fs.StringVar(&cfg.RatingsHost, "ratings-host", env("RATINGS_HOSTNAME", serviceRatings), "host:port of ratings (RATINGS_HOSTNAME)")
	case serviceRatings:
		fs.StringVar(&cfg.LineListen, "line-listen", getenv("LINE_LISTEN"), "address to serve the line protocol on as well (LINE_LISTEN)")
		fs.StringVar(&fault, "fault", getenv("FAULT"), "faults to inject, as in error=10%,delay=500ms:20% (FAULT)")
	}
	if err := fs.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return Config{}, err
		}
		return Config{}, usageError{err}
	}
	proxy := ""
	if u, err := url.Parse(getenv("HTTP_PROXY")); err == nil {
		proxy = u.Host
	}
	if *http2 {
		if proxy == "" {
			return Config{}, usageError{errors.New("http2: needs HTTP_PROXY, the address of the sidecar")}
		}
		cfg.HTTP2Proxy = proxy
	}
	if rpc {
		cfg.DetailsGRPC = cmp.Or(proxy, withPort(cfg.DetailsHost))
	}
	if fs.NArg() > 0 {
		return Config{}, usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	return cfg.complete(fault, versions)
}

// complete checks what was chosen and fills in what follows from it.
func (c Config) complete(fault string, versions []string) (Config, error) {
	for _, one := range []struct{ name, address string }{{"listen", c.Listen}, {"line-listen", c.LineListen}, {"ratings-tcp", c.RatingsTCP}} {
		if _, _, err := net.SplitHostPort(one.address); err != nil && (one.address != "" || one.name == "listen") {
			return Config{}, usageError{fmt.Errorf("%s: %w", one.name, err)}
		}
	}
	if !slices.Contains(versions, c.Version) {
		return Config{}, usageError{fmt.Errorf("version: %s has no %q, only %s", c.Service, c.Version, strings.Join(versions, ", "))}
	}
	var err error
	if c.Fault, err = ParseFault(fault); err != nil {
		return Config{}, usageError{fmt.Errorf("fault: %w", err)}
	}
	if c.PodName == "" {
		c.PodName = c.Service + "-" + c.Version
	}
	for _, host := range []*string{&c.DetailsHost, &c.ReviewsHost, &c.RatingsHost} {
		*host = withPort(*host)
	}
	return c, nil
}

// withPort adds Bookinfo's port to a host that names none.
func withPort(host string) string {
	if host == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
}

// calls lists the services that this one calls.
func (c Config) calls() []string {
	switch {
	case c.Service == serviceProductpage:
		return []string{serviceDetails, serviceReviews, serviceRatings}
	case c.Service == serviceReviews && c.Version != "v1":
		return []string{serviceRatings}
	}
	return nil
}
