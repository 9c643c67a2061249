package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/testca"
	"github.com/telemesh/telemesh/proxy/tlsfiles"
)

// cpuTime is the process's CPU time so far: client, both sidecars and the
// application are in it, so that a difference between two runs is theirs.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMutualTLS is what encryption between two sidecars adds to a request on
// a kept connection, and what a handshake costs both ends together. Compare the
// cpu-µs/op of plain and mutual.
func BenchmarkMutualTLS(b *testing.B) {
	for name, inbound := range map[string]string{"request/plain": tlsOff, "request/mutual": tlsStrict} {
		b.Run(name, func(b *testing.B) {
			ca := testca.New(b)
			c := secured(b, ca, "api", calleeID, inbound)
			c.AppAddress = application(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1024)) })
			callee := startSidecar(b, c)
			calling := startSidecar(b, secured(b, ca, "web", callerID, tlsOff))
			knows(calling, callee)
			conn, err := net.Dial("tcp", calling.OutboundAddress())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			request := func() {
				if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					b.Fatalf("status %d, %v", resp.StatusCode, err)
				}
			}
			request()
			before := cpuTime(b)
			for b.Loop() {
				request()
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
	b.Run("handshake", benchmarkHandshake)
}

func benchmarkHandshake(b *testing.B) {
	ca := testca.New(b)
	callee := startSidecar(b, secured(b, ca, "api", calleeID, tlsStrict))
	f := ca.Write(b.TempDir(), 3, "web", callerID)
	source, err := tlsfiles.New(tlsfiles.Options{Files: tlsfiles.Files(f), Logger: callee.log})
	if err != nil {
		b.Fatal(err)
	}
	config, err := source.Client(tlsfiles.Peer{Principals: []string{calleeID}}, []string{"http/1.1"})
	if err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	for b.Loop() {
		c, err := tls.Dial("tcp", callee.InboundAddress(), config)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close() // the handshake was all
	}
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}
