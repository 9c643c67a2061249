package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// startLines serves ratings' own protocol until the test ends, and returns its
// address and the counts.
func startLines(t *testing.T, fault string) (string, *counts) {
	t.Helper()
	f, err := ParseFault(fault)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &lines{ratings: newRatings(f), counts: newCounts(Config{Service: serviceRatings})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v, want nil after a drain", err)
		}
	})
	return ln.Addr().String(), s.counts
}

// say sends text on a connection of its own and returns all that comes back.
func say(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRatingsAnswersALineForALine(t *testing.T) {
	address, counts := startLines(t, "")
	failing, _ := startLines(t, "error=503:100%")
	asked := uint64(0)
	for _, tt := range []struct{ name, address, text, want string }{
		{"a product", address, "GET 7\n", `{"id":7,"ratings":{"Reviewer1":5,"Reviewer2":4}}` + "\n"},
		{"CRLF", address, "GET 7\r\n", `{"id":7,"ratings":{"Reviewer1":5,"Reviewer2":4}}` + "\n"},
		{"no number", address, "GET x\n", `{"error":"please provide numeric product ID","status":400}` + "\n"},
		{"another command", address, "PUT 7\n", `{"error":"please provide numeric product ID","status":400}` + "\n"},
		{"half a line", address, "GET 7", `{"error":"want GET and a product ID, and the end of the line","status":400}` + "\n"},
		{"a line too long", address, "GET " + strings.Repeat("1", maxLine-4), `{"error":"want GET and a product ID, and the end of the line","status":400}` + "\n"},
		{"a fault", failing, "GET 7\n", `{"error":"fault injected","status":503}` + "\n"},
		{"a probe", address, "", ""},
	} {
		if got := say(t, tt.address, tt.text); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.address == address && tt.text != "" {
			asked++
		}
	}
	if n := counts.received.Load(); n != asked {
		t.Errorf("received %d, want %d: all but the probe", n, asked)
	}
}

func TestADelayHoldsALineUntilTheServiceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &lines{ratings: newRatings(Fault{Delay: time.Minute, DelayShare: 1})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.answer(ctx, "GET 7\n"); err == nil {
			t.Error("answered although the service stops")
		}
		began := time.Now()
		if v, err := s.answer(t.Context(), "GET 7\n"); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v, %v after %s of the bubble's clock, want an answer after a minute", v, err, time.Since(began))
		}
	})
}

func TestReviewsCallRatingsByLine(t *testing.T) {
	good, received := startLines(t, "")
	failing, _ := startLines(t, "error=100%")
	for _, tt := range []struct {
		name, ratings, want string
		counts              SentCounts
	}{
		{"good", good, `"rating":{"stars":5,"color":"black"}`, SentCounts{Requests: 1}},
		{"failing", failing, ratingsUnavailable, SentCounts{Requests: 1, Failed: 1}},
		{"nobody", closedPort(t), ratingsUnavailable, SentCounts{Unsent: 1}},
		{"hangs up", rude(t, ""), ratingsUnavailable, SentCounts{Requests: 1, Failed: 1}},
		{"half an answer", rude(t, `{"id":0,`), ratingsUnavailable, SentCounts{Requests: 1, Failed: 1}},
		{"another protocol", rude(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), ratingsUnavailable, SentCounts{Requests: 1, Failed: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reviews := start(t, "reviews", "--version", "v2", "--ratings-tcp", tt.ratings)
			if status, text := get(t, "http://"+reviews+"/reviews/0"); status != http.StatusOK || !strings.Contains(text, tt.want) {
				t.Errorf("got %d %s, want %s", status, text, tt.want)
			}
			if got := countsOf(t, reviews).Sent["ratings"]; got != tt.counts {
				t.Errorf("counted %+v, want %+v", got, tt.counts)
			}
		})
	}
	if n := received.received.Load(); n != 1 {
		t.Errorf("ratings received %d calls, want 1", n)
	}
}

// rude reads a line of each connection, says reply and hangs up.
func rude(t *testing.T, reply string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, reply)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = ln.Close(); serving.Wait() })
	return ln.Addr().String()
}

func TestServiceServesHTTPAndLinesAndDrainsBoth(t *testing.T) {
	s, err := newService(Config{Service: serviceRatings, Version: "v1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	web, line, err := listen(t.Context(), Config{Listen: "127.0.0.1:0", LineListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, web, line) }()
	if status, _ := get(t, "http://"+web.Addr().String()+"/ratings/0"); status != http.StatusOK {
		t.Errorf("over HTTP: %d", status)
	}
	if text := say(t, line.Addr().String(), "GET 0\n"); !strings.Contains(text, "Reviewer1") {
		t.Errorf("by line: %q", text)
	}
	if n := countsOf(t, web.Addr().String()).Received; n != 2 {
		t.Errorf("received %d, want both", n)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestDetailsAreTheSameOverGRPC(t *testing.T) {
	details := start(t, "details")
	page := start(t, "productpage", "--details-host", details, "--reviews-host", closedPort(t), "--details-grpc")
	plain := start(t, "productpage", "--details-host", details, "--reviews-host", closedPort(t))
	for _, path := range []string{"/api/v1/products/0", "/api/v1/products/9007199254740992"} {
		status, mime, text := do(t, http.MethodGet, "http://"+page+path, "", nil)
		wantStatus, wantMIME, want := do(t, http.MethodGet, "http://"+plain+path, "", nil)
		if status != wantStatus || mime != wantMIME || text != strings.TrimSpace(want) {
			t.Errorf("%s: %d %s %s, want %d %s %s", path, status, mime, text, wantStatus, wantMIME, want)
		}
	}
	if status, _ := get(t, "http://"+page+"/api/v1/products/9007199254740993"); status != http.StatusBadRequest {
		t.Errorf("an ID that JSON cannot say: %d, want 400", status)
	}
	if _, text := get(t, "http://"+page+"/productpage"); !strings.Contains(text, "PublisherA") {
		t.Errorf("the page lacks details:\n%s", text)
	}
	if got, want := countsOf(t, page).Sent["details"], (SentCounts{Requests: 4}); got != want {
		t.Errorf("sent %+v, want %+v", got, want)
	}
	if n := countsOf(t, details).Received; n != 6 {
		t.Errorf("details received %d, want 6", n)
	}
}

func TestCallsOverGRPCThatFailAreCounted(t *testing.T) {
	refusing := httptest.NewUnstartedServer(grpcAnswer(codes.Unavailable))
	refusing.Config.Protocols = new(http.Protocols)
	refusing.Config.Protocols.SetUnencryptedHTTP2(true)
	refusing.Start()
	defer refusing.Close()
	for _, tt := range []struct {
		name, details string
		status        int
		want          SentCounts
	}{
		{"an answer of a proxy", refusing.Listener.Addr().String(), http.StatusServiceUnavailable, SentCounts{Requests: 1, Failed: 1}},
		{"nobody", closedPort(t), http.StatusInternalServerError, SentCounts{Unsent: 1}},
	} {
		page := start(t, "productpage", "--details-host", tt.details, "--details-grpc")
		if status, text := get(t, "http://"+page+"/api/v1/products/0"); status != tt.status || !strings.Contains(text, detailsUnavailable) {
			t.Errorf("%s: %d %s, want %d", tt.name, status, text, tt.status)
		}
		if got := countsOf(t, page).Sent["details"]; got != tt.want {
			t.Errorf("%s: sent %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// grpcAnswer answers every call of details with a code.
func grpcAnswer(code codes.Code) http.Handler {
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(code, "on purpose") }))
	return s
}

func TestHeadersReachDetailsOverGRPC(t *testing.T) {
	got := make(chan http.Header, 1)
	last := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Clone()
		grpcAnswer(codes.Unavailable).ServeHTTP(w, r)
	}))
	last.Config.Protocols = new(http.Protocols)
	last.Config.Protocols.SetUnencryptedHTTP2(true)
	last.Start()
	defer last.Close()
	page := start(t, "productpage", "--details-host", last.Listener.Addr().String(), "--details-grpc")

	sent := http.Header{"X-Private": {"no"}}
	want := map[string]string{}
	for _, name := range forwardedHeaders() {
		want[name] = "value of " + name
		sent.Set(name, want[name])
	}
	want["grpc-trace-bin"] = base64.RawStdEncoding.EncodeToString([]byte("\x00trace"))
	sent.Set("grpc-trace-bin", base64.StdEncoding.EncodeToString([]byte("\x00trace")))
	sent.Set("jwt", "not \u00fcberall printable") // would cost the whole call
	delete(want, "jwt")
	delete(want, "user-agent") // gRPC's own
	do(t, http.MethodGet, "http://"+page+"/api/v1/products/0", "", sent)
	header := <-got
	for name, want := range want {
		if got := header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if header.Get("X-Private") != "" || header.Get("jwt") != "" {
		t.Errorf("passed on: %v", header)
	}
}

func TestCallsOfDetailsGoThroughTheProxy(t *testing.T) {
	cfg, err := parseConfig([]string{"productpage", "--details-grpc"}, func(name string) string {
		return map[string]string{"HTTP_PROXY": "http://127.0.0.1:15001"}[name]
	}, io.Discard)
	if err != nil || cfg.DetailsGRPC != "127.0.0.1:15001" || cfg.DetailsHost != "details:9080" {
		t.Errorf("%+v, %v", cfg, err)
	}
	asked := make(chan string, 1)
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Host + r.URL.Path
		grpcAnswer(codes.Unavailable).ServeHTTP(w, r)
	}))
	proxy.Config.Protocols = new(http.Protocols)
	proxy.Config.Protocols.SetUnencryptedHTTP2(true)
	proxy.Start()
	defer proxy.Close()
	c, err := newDetailsClient(proxy.Listener.Addr().String(), cfg.DetailsHost)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.Invoke(metadata.NewOutgoingContext(t.Context(), nil), detailsMethod, wrapperspb.Int64(1), new(structpb.Struct)) // refused
	if got := <-asked; got != "details:9080/bookinfo.v1.Details/Get" {
		t.Errorf("the proxy was asked for %s", got)
	}
}

func TestProtocolsOfTheConfiguration(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want Config
	}{
		{[]string{"reviews", "--version", "v3", "--ratings-tcp", "127.0.0.1:1"},
			Config{Service: "reviews", Version: "v3", Listen: "127.0.0.1:9080", PodName: "reviews-v3", RatingsHost: "ratings:9080", RatingsTCP: "127.0.0.1:1"}},
		{[]string{"ratings", "--line-listen", ":1"}, Config{Service: "ratings", Version: "v1", Listen: "127.0.0.1:9080", PodName: "ratings-v1", LineListen: ":1"}},
	} {
		if got, err := parseConfig(tt.args, func(string) string { return "" }, io.Discard); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v\nwant %+v", tt.args, got, err, tt.want)
		}
	}
	for _, args := range [][]string{{"reviews", "--ratings-tcp", "ratings"}, {"ratings", "--line-listen", "9080"}, {"details", "--line-listen", ":1"}} {
		if _, err := parseConfig(args, func(string) string { return "" }, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
