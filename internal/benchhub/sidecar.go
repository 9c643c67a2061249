package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/process"
)

// visibleAfter measures from a response through a real sidecar until its request
// is found: what the sidecar waits for more records is in it. The hub is another,
// as these records are of today, and the generator's are not.
func visibleAfter(ctx context.Context, o options, r *figures.Report) error {
	h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), filepath.Join(o.dir, "sidecars"))
	if err != nil {
		return err
	}
	return errors.Join(throughASidecar(ctx, o, h, r), h.kill())
}

func throughASidecar(ctx context.Context, o options, h *hub, r *figures.Report) error {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }))
	defer app.Close()
	_, port, err := net.SplitHostPort(app.Listener.Addr().String())
	if err != nil {
		return err
	}
	file := filepath.Join(o.dir, "sidecar.json")
	p, err := process.Start(process.Spec{Name: "mesh-proxy", Path: filepath.Join(o.bin, "mesh-proxy"), Args: []string{
		"--service", "app", "--app-port", port, "--inbound-address", "127.0.0.1:0", "--outbound-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
		"--hub", h.grpc, "--address-file", file, "--log-level", "error",
	}})
	if err != nil {
		return err
	}
	defer p.Stop(5 * time.Second)
	addresses, err := p.Addresses(ctx, file)
	if err != nil {
		return err
	}
	var took []float64
	for i := range o.responses {
		after, err := untilFound(ctx, h, "http://"+addresses["inbound"])
		if err != nil {
			return err
		}
		took = append(took, after.Seconds()*1000)
		time.Sleep(time.Duration(i%10) * 10 * time.Millisecond) // to meet the sidecar at any moment of its second
	}
	r.Quantiles("visible_after_response", took)
	return nil
}

// untilFound makes a request and looks for it until it is there.
func untilFound(ctx context.Context, h *hub, url string) (time.Duration, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	id := a.Header.Get("X-Request-Id")
	if err := a.Body.Close(); err != nil {
		return 0, err
	}
	answered := time.Now()
	for time.Since(answered) < 10*time.Second && ctx.Err() == nil {
		var found struct{}
		if h.get(ctx, "/api/mesh/v1/requests/"+id+"?detail=no", &found) == nil {
			return time.Since(answered), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("request %q is not found ten seconds after its response", id)
}
