package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// requestID is the header by which every request is followed.
const requestID = "x-request-id"

// app is the application process: HTTP/1, WebSocket, gRPC and a protocol of
// its own, told apart on one port by their first byte.
type app struct {
	// seen has a line for every request that arrived. It is opened for appending
	// and not buffered, so that a kill loses nothing of it.
	seen *os.File
}

// serveApp serves until it is killed.
func serveApp(address, seen string) error {
	f, err := os.OpenFile(seen, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	a := &app{seen: f}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	web, rpc := newFork(l.Addr()), newFork(l.Addr())
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(web) }() // until the process ends
	calls := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			a.sawCall(ctx)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			a.sawCall(s.Context())
			return next(srv, s)
		}))
	testgrpc.RegisterTestServiceServer(calls, interop.NewTestServer())
	go func() { _ = calls.Serve(rpc) }()
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go a.sort(c, web, rpc)
	}
}

func (a *app) saw(id string) {
	_, _ = a.seen.WriteString(id + "\n") // what is missing here fails the soak
}

func (a *app) sawCall(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	a.saw(strings.Join(md.Get(requestID), ","))
}

// sort hands a connection to whom its first byte is for.
func (a *app) sort(c net.Conn, web, rpc *fork) {
	in := bufio.NewReader(c)
	first, err := in.Peek(3)
	switch p := (&peeked{c, in}); {
	case err != nil:
		_ = c.Close()
	case first[0] == opaqueMark:
		a.opaque(p)
	case string(first) == "PRI":
		rpc.conns <- p
	default:
		web.conns <- p
	}
}

// opaque echoes whatever follows a line with the session's ID.
func (a *app) opaque(c *peeked) {
	defer c.Close()
	id, err := c.in.ReadString('\n')
	if err != nil {
		return
	}
	a.saw(strings.TrimSpace(id[1:]))
	_, _ = io.Copy(c.Conn, c.in) // the caller may leave
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("content-length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		for len(b) > 0 && err == nil {
			n := min(len(b), 1000)
			_, err = w.Write(b[:n])
			_ = http.NewResponseController(w).Flush()
			b = b[n:]
		}
	})
	mux.HandleFunc("/slow/{ms}", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.PathValue("ms"))
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
		case <-r.Context().Done():
		}
		w.Header().Set("content-length", "0")
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/ws", serveWebSocket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.saw(r.Header.Get(requestID))
		mux.ServeHTTP(w, r)
	})
}

// fork is a listener of connections that were accepted elsewhere.
type fork struct {
	address net.Addr
	conns   chan net.Conn
}

func newFork(a net.Addr) *fork { return &fork{a, make(chan net.Conn)} }

func (f *fork) Accept() (net.Conn, error) {
	c, ok := <-f.conns
	if !ok {
		return nil, errors.New("closed")
	}
	return c, nil
}

func (f *fork) Close() error   { return nil }
func (f *fork) Addr() net.Addr { return f.address }

// peeked is a connection of which the first bytes were looked at.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }
