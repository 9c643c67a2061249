package tcp

import (
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/telemesh/telemesh/proxy/netio"
)

// BenchmarkJoin carries one large stream. cpu-ns/KiB is of the whole process:
// sender, receiver and kernel are in it, the same for both ways.
func BenchmarkJoin(b *testing.B) {
	for _, tc := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{{"splice", plain}, {"buffers", hide}} {
		b.Run(tc.name, func(b *testing.B) {
			near, a := pairOfSockets(b)
			c, far := pairOfSockets(b)
			joined := make(chan struct{})
			go func() {
				defer close(joined)
				Join(b.Context(), netio.New(tc.wrap(a), nil), netio.New(tc.wrap(c), nil), 0)
				a.Close()
				c.Close()
			}()
			chunk := make([]byte, 64<<10)
			b.SetBytes(int64(len(chunk)))
			before := cpu(b)
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := near.Write(chunk); err != nil {
						break
					}
				}
				near.CloseWrite()
			}()
			n, err := io.Copy(io.Discard, far)
			b.StopTimer()
			b.ReportMetric(float64(cpu(b)-before)/float64(n>>10), "cpu-ns/KiB")
			if err != nil || n != int64(b.N*len(chunk)) {
				b.Errorf("%d bytes, %v", n, err)
			}
			far.Close()
			near.Close()
			<-joined
		})
	}
}

func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
