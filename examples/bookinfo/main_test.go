package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves what args name on a loopback listener and returns its
// authority. It parses args as the command would.
func start(t *testing.T, args ...string) string {
	t.Helper()
	cfg, err := parseConfig(args, func(string) string { return "" }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport(nil)
	srv := httptest.NewUnstartedServer(handler(t, cfg, transport))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	t.Cleanup(transport.CloseIdleConnections)
	return strings.TrimPrefix(srv.URL, "http://")
}

// handler is that of the service that cfg names.
func handler(t *testing.T, cfg Config, transport http.RoundTripper) http.Handler {
	t.Helper()
	s, err := newService(cfg, transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s.handler
}

// do sends one request over its own connection and returns the answer.
func do(t *testing.T, method, url, body string, header http.Header) (status int, contentType, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(read)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	status, _, text := do(t, http.MethodGet, url, "", nil)
	return status, text
}

func countsOf(t *testing.T, host string) Counts {
	t.Helper()
	status, text := get(t, "http://"+host+pathCounts)
	var c Counts
	if err := json.Unmarshal([]byte(text), &c); err != nil || status != http.StatusOK {
		t.Fatalf("counts: %d %q: %v", status, text, err)
	}
	return c
}

// closedPort is an authority where nothing listens. The port stays bound for
// the test, so that no server of the test can be given it.
func closedPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Close(fd); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

func TestConfig(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	tests := []struct {
		name string
		args []string
		env  func(string) string
		want Config
		err  string
	}{
		{name: "defaults", args: []string{"reviews"}, env: env(),
			want: Config{Service: "reviews", Version: "v1", Listen: "127.0.0.1:9080", PodName: "reviews-v1", RatingsHost: "ratings:9080"}},
		{name: "environment", args: []string{"productpage"}, env: env("PORT", "8000", "DETAILS_HOSTNAME", "d", "REVIEWS_HOSTNAME", "r:1", "RATINGS_HOSTNAME", "[::1]", "POD_NAME", "p-0"),
			want: Config{Service: "productpage", Version: "v1", Listen: "127.0.0.1:8000", PodName: "p-0", DetailsHost: "d:9080", ReviewsHost: "r:1", RatingsHost: "[::1]:9080"}},
		{name: "LISTEN wins over PORT and a flag over LISTEN", args: []string{"details", "--listen", ":1"}, env: env("PORT", "2", "LISTEN", ":3"),
			want: Config{Service: "details", Version: "v1", Listen: ":1", PodName: "details-v1"}},
		{name: "fault", args: []string{"ratings", "--fault", "error=10%"}, env: env(),
			want: Config{Service: "ratings", Version: "v1", Listen: "127.0.0.1:9080", PodName: "ratings-v1", Fault: Fault{ErrorStatus: 500, ErrorShare: .1}}},
		{name: "no service", err: "name a service"},
		{name: "unknown service", args: []string{"basket"}, err: `unknown service "basket"`},
		{name: "unknown version", args: []string{"reviews", "--version", "v4"}, env: env(), err: `version: reviews has no "v4"`},
		{name: "bad fault", args: []string{"ratings", "--fault", "error=ten"}, env: env(), err: "fault: "},
		{name: "fault elsewhere", args: []string{"details", "--fault", "error=1%"}, env: env(), err: "not defined: -fault"},
		{name: "bad address", args: []string{"details", "--listen", "9080"}, env: env(), err: "listen: "},
		{name: "stray argument", args: []string{"details", "x"}, env: env(), err: `unexpected argument "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig(tt.args, tt.env, io.Discard)
			if tt.err != "" {
				var usage usageError
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.As(err, &usage) {
					t.Fatalf("error = %v, want a usage error with %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
	if _, err := parseConfig([]string{"--help"}, nil, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v, want flag.ErrHelp", err)
	}
}

func TestServeDrainsRequestsInFlight(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "late but whole")
		}))
	}()
	go func() {
		<-entered
		stop()
		close(release)
	}()
	if status, text := get(t, "http://"+ln.Addr().String()); status != http.StatusOK || text != "late but whole" {
		t.Errorf("got %d %q", status, text)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v, want nil after a drain", err)
	}
}

// onLine calls f with each line that a logger writes.
type onLine func(line string)

func (f onLine) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

func TestRunStopsCleanlyAndNamesABusyAddress(t *testing.T) {
	none := func(string) string { return "" }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var lines []string
	log := slog.New(slog.NewJSONHandler(onLine(func(line string) {
		lines = append(lines, line)
		stop()
	}), nil))
	if err := run(ctx, log, []string{"details", "--listen", "127.0.0.1:0"}, none, io.Discard); err != nil {
		t.Errorf("run: %v", err)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], "serving") || !strings.Contains(lines[1], "drained") {
		t.Errorf("logged %q, want serving, then drained", lines)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = run(t.Context(), log, []string{"details", "--listen", ln.Addr().String()}, none, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "listen for details") {
		t.Errorf("busy address: %v", err)
	}
}
