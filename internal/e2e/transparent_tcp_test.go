//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// greet is a program that prints what a mail server says first.
const greet = `exec 3<>/dev/tcp/%s && read -r -t 10 line <&3 && echo "heard $line"`

// greeted runs greet behind a sidecar until it has heard the server.
func greeted(t *testing.T, hub, address string, flags ...string) {
	t.Helper()
	args := append([]string{"run", "--service", "shop", "--hub-grpc", hub}, flags...)
	out, errs, code := run(t, nil, binary(t, "meshctl"), append(args, "--", "bash", "-c",
		"for i in $(seq 50); do "+fmt.Sprintf(greet, address)+" && exit 0; sleep 0.2; done; exit 1")...)
	if code != 0 || !strings.Contains(out, "heard 220 ready") {
		t.Fatalf("exit code %d, it printed %q\n%s", code, out, errs)
	}
}

// wantEdge waits until the hub's graph has tcp from shop to mail, seen by both.
func wantEdge(t *testing.T, hub string) {
	t.Helper()
	eventually(t, 20*time.Second, "the connection is on the graph", func() error {
		var g topologyv1.Graph
		if err := getJSON("http://"+hub+"/api/mesh/v1/graph?window=60", &g); err != nil {
			return err
		}
		for _, e := range g.Edges {
			if e.DestinationService == "mail.default.svc.cluster.local" && e.Protocol == "tcp" && e.SourceTotal > 0 && e.SourceTotal == e.DestinationTotal {
				return nil
			}
		}
		return fmt.Errorf("it has %+v", g.Edges)
	})
}

// mailMesh starts a hub and the mail server's sidecar and returns the hub's
// addresses.
func mailMesh(t *testing.T) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.json")
	start(t, nil, binary(t, "mesh-hub"), "--data-dir", t.TempDir(), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--address-file", file)
	hub := addresses(t, file)
	sidecar(t, hub["grpc"], "mail", "--app-address", mailServer(t), "--service-port", "25")
	return hub
}

func TestAServerThatSpeaksFirstIsReachedByItsNameWithoutAnySetting(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network of its own needs root")
	}
	hub := mailMesh(t)
	greeted(t, hub["grpc"], "mail/25", "--transparent")
	wantEdge(t, hub["http"])
}

func TestRunOpensAPortForWhatIsNotHTTP(t *testing.T) {
	port := strings.TrimPrefix(nobody(t), "127.0.0.1:")
	hub := mailMesh(t)
	greeted(t, hub["grpc"], "127.0.0.1/"+port, "--outbound-tcp", port+"=mail:25")
	wantEdge(t, hub["http"])
}
