//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is an address on loopback where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// behind runs meshctl run with a shell script as the program.
func behind(t *testing.T, hub, service, script string, flags ...string) *child {
	t.Helper()
	args := append([]string{"run", "--service", service, "--hub-grpc", hub}, flags...)
	return start(t, nil, binary(t, "meshctl"), append(args, "--", "sh", "-c", script)...)
}

// said waits until a child has printed something on its standard output.
func (c *child) said(t *testing.T, what string) {
	t.Helper()
	eventually(t, 20*time.Second, "the program prints "+what, func() error {
		if !strings.Contains(c.out.String(), what) {
			return fmt.Errorf("it has printed %q and %q", c.out, c.errs)
		}
		return nil
	})
}

func TestRunPassesExitCodeAndEnvironment(t *testing.T) {
	c := behind(t, nobody(t), "seven", `echo "proxy=$HTTP_PROXY port=$PORT version=$SERVICE_VERSION"; exit 7`, "--port", "0", "--version", "v9")
	if code := c.wait(t, time.Minute); code != 7 {
		t.Errorf("exit code %d, want 7\n%s", code, c.errs)
	}
	out := c.out.String()
	if !strings.Contains(out, "proxy=http://127.0.0.1:") || !strings.Contains(out, "version=v9") || strings.Contains(out, "port= ") {
		t.Errorf("environment of the program: %s", out)
	}
}

func TestRunPassesSignals(t *testing.T) {
	c := behind(t, nobody(t), "patient", `trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.2; done`)
	c.said(t, "up")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(t, time.Minute); code != 3 || !strings.Contains(c.out.String(), "asked") {
		t.Errorf("exit code %d, want 3; it printed %q\n%s", code, c.out, c.errs)
	}
}

func TestAProgramBehindRunIsReachedByName(t *testing.T) {
	d := startDemo(t, "--rate", "1")
	app := behind(t, d.GRPC, "stars", fmt.Sprintf("exec '%s' ratings --listen 127.0.0.1:$PORT --version v1", binary(t, "bookinfo")),
		"--port", "0", "--service-port", "9080")
	client := d.through()
	eventually(t, 20*time.Second, "stars is reached through the load's sidecar", func() error {
		select {
		case <-app.done:
			t.Fatalf("it ended: %s%s", app.out, app.errs)
		default:
		}
		a, err := call(client, "http://stars:9080/ratings/0")
		if err == nil && (a.status != http.StatusOK || !strings.Contains(a.body, "Reviewer1")) {
			err = fmt.Errorf("it answers %d %q", a.status, a.body)
		}
		return err
	})
	eventually(t, 10*time.Second, "it is in the graph", func() error {
		if e := edge(d.graph(60), "loadgen-v1", "stars-v1"); e.DestinationTotal == 0 {
			return fmt.Errorf("edge loadgen-v1 → stars-v1: %+v", e)
		}
		return nil
	})
	app.stop(t)
	if left := processesOf(t, "--service\x00stars\x00"); left != 0 {
		t.Errorf("%d processes are left of it", left)
	}
}

// processesOf counts the processes whose command line holds text.
func processesOf(t *testing.T, text string) (n int) {
	t.Helper()
	text = strings.ReplaceAll(text, "\x00", " ")
	for _, line := range processes(t, filepath.Join(root(t), "bin")) {
		if strings.Contains(line+" ", text) {
			n++
		}
	}
	return n
}

func TestRunWorksWithoutAHub(t *testing.T) {
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "outside got %s", r.Header.Get("X-Request-Id"))
	}))
	t.Cleanup(outside.Close)
	c := behind(t, nobody(t), "alone", `echo "proxy=$HTTP_PROXY"; trap 'exit 0' TERM INT; while :; do sleep 0.2; done`)
	c.said(t, "proxy=http://")
	_, after, _ := strings.Cut(c.out.String(), "proxy=")
	proxy, err := url.Parse(strings.TrimSpace(after))
	if err != nil {
		t.Fatal(err)
	}
	// Go's client never sends loopback through HTTP_PROXY, so the test is the
	// program that does.
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 15 * time.Second}
	a, err := call(client, outside.URL)
	if err != nil || a.status != http.StatusOK || !strings.HasPrefix(a.body, "outside got ") || strings.HasSuffix(a.body, "got ") {
		t.Errorf("through its sidecar: %d %q, %v; want 200 and a request ID", a.status, a.body, err)
	}
	if a, err := call(client, "http://nobody/"); err != nil || a.status != http.StatusNotFound || !strings.Contains(a.body, "meshctl status") {
		t.Errorf("an unknown service: %d %q, %v", a.status, a.body, err)
	}
}
