//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// mailServer serves, on loopback, a protocol in which the server speaks first:
// a greeting, then a line back for each. It returns its address.
func mailServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "220 ready\r\n") // a probe does not read it
				_, _ = io.Copy(c, c)                      // until the caller ends its direction
			}()
		}
	}()
	return l.Addr().String()
}

// sidecar starts a mesh-proxy and returns its addresses.
func sidecar(t *testing.T, hub, service string, flags ...string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addresses.json")
	start(t, nil, binary(t, "mesh-proxy"), append([]string{
		"--service", service, "--hub", hub, "--address-file", file,
		"--inbound-address", "127.0.0.1:0", "--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
	}, flags...)...)
	return addresses(t, file)
}

// opaquePort asks a sidecar where its first --outbound-tcp listens.
func opaquePort(t *testing.T, admin string) string {
	t.Helper()
	var dump struct {
		OutboundTCP []struct{ Address, Host string }
	}
	if err := getJSON("http://"+admin+"/config_dump", &dump); err != nil {
		t.Fatal(err)
	}
	if len(dump.OutboundTCP) != 1 || dump.OutboundTCP[0].Host != "mail:25" {
		t.Fatalf("the configuration shows %+v, want one port for mail:25", dump.OutboundTCP)
	}
	return dump.OutboundTCP[0].Address
}

// mail has a whole session with the mail server through a sidecar.
func mail(address, text string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); line != "220 ready\r\n" {
		return fmt.Errorf("greeting %q: %w", line, err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if b, err := io.ReadAll(in); string(b) != text {
		return fmt.Errorf("got %d bytes back, want %d: %w", len(b), len(text), err)
	}
	return nil
}

func TestOpaqueConnectionsAreOnTheGraphWithExactCounts(t *testing.T) {
	hub := mailMesh(t)
	shop := sidecar(t, hub["grpc"], "shop", "--outbound-tcp", "0=mail:25")
	port := opaquePort(t, shop["admin"])

	var failed uint64 // before the hub has told of mail
	eventually(t, 20*time.Second, "mail is reached", func() error {
		err := mail(port, "first")
		if err != nil {
			failed++
		}
		return err
	})
	const sessions = 20
	sent := uint64(len("first"))
	for i := range sessions - 1 {
		text := fmt.Sprintf("letter %04d", i)
		sent += uint64(len(text))
		if err := mail(port, text); err != nil {
			t.Fatal(err)
		}
	}
	got := sent + sessions*uint64(len("220 ready\r\n"))
	eventually(t, 20*time.Second, "both sides' counts are on the graph", func() error {
		var g topologyv1.Graph
		if err := getJSON("http://"+hub["http"]+"/api/mesh/v1/graph?window=60", &g); err != nil {
			return err
		}
		for _, e := range g.Edges {
			if s := e.Signals; s.BytesIn != sent || s.BytesOut != got {
				continue
			}
			if e.DestinationService == "mail.default.svc.cluster.local" && e.SourceTotal == sessions && e.DestinationTotal == sessions && e.Protocol == "tcp" {
				return nil
			}
		}
		return fmt.Errorf("after %d failures: %+v", failed, g.Edges)
	})
}
