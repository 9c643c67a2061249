//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// knownFindings of promtool: Istio's published name has the unit that Istio
// chose (docs/adr/009).
const knownFindings = `istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"`

func TestPromtoolFindsNothingElseInTheMetrics(t *testing.T) {
	d := startDemo(t)
	pages := map[string]string{"hub": d.Hub + "/metrics"}
	for workload, admin := range d.Admins {
		pages[workload] = "http://" + admin + "/metrics"
	}
	eventually(t, 20*time.Second, "the hub has counted", func() error {
		_, err := promql(d.Hub, "istio_requests_total")
		return err
	})
	for name, url := range pages {
		page, err := get(url)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("promtool", "check", "metrics")
		cmd.Stdin = bytes.NewReader(page)
		out, err := cmd.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" && line != knownFindings {
				t.Errorf("%s: promtool: %s", name, line)
			}
		}
		if err != nil && !strings.Contains(string(out), knownFindings) {
			t.Errorf("%s: promtool: %v\n%s", name, err, out)
		}
	}
}

func TestARealPrometheusComputesTheHubsRates(t *testing.T) {
	d := startDemo(t, "--rate", "30")
	base := startPrometheus(t, d)
	const byEdge = `sum by (source_workload, destination_workload) `
	// Over half a minute, so that the scrapes' moments weigh little.
	const window = "[30s]"
	eventually(t, 90*time.Second, "Prometheus and hub agree on every rate", func() error {
		for _, edge := range []string{
			`source_workload="loadgen-v1"`, `destination_workload="details-v1"`, `destination_workload="ratings-v1"`,
		} {
			rate := func(more string) string {
				return byEdge + `(rate(istio_requests_total{reporter="source",` + edge + more + `}` + window + `))`
			}
			own, err := promql(d.Hub, rate(""))
			if err != nil {
				return err
			}
			for _, job := range []string{"hub", "sidecars"} {
				// A whole window of samples first.
				if n, err := promql(base, `min(count_over_time(istio_requests_total{reporter="source",job="`+job+`",`+edge+`}`+window+`))`); err != nil || n < 28 {
					return fmt.Errorf("%s: %g samples, %w", job, n, err)
				}
				scraped, err := promql(base, rate(`,job="`+job+`"`))
				if err != nil {
					return err
				}
				if math.Abs(scraped-own) > 0.05*own {
					return fmt.Errorf("%s from %s: %g per second, the hub says %g", edge, job, scraped, own)
				}
			}
		}
		return nil
	})
}

// startPrometheus starts Debian's Prometheus over the demo's hub and sidecars.
func startPrometheus(t *testing.T, d *demo) string {
	t.Helper()
	dir := t.TempDir()
	var sidecars []string
	for _, admin := range d.Admins {
		sidecars = append(sidecars, "'"+admin+"'")
	}
	config := fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
- job_name: hub
  honor_labels: true
  static_configs: [{targets: ['%s']}]
- job_name: sidecars
  static_configs: [{targets: [%s]}]
`, strings.TrimPrefix(d.Hub, "http://"), strings.Join(sidecars, ", "))
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	base := "http://" + address
	eventually(t, 30*time.Second, "Prometheus is ready", func() error {
		_, err := get(base + "/-/ready")
		return err
	})
	eventually(t, 30*time.Second, "every target is up", func() error {
		up, err := promql(base, "sum(up)")
		if err == nil && int(up) != 1+len(sidecars) {
			err = fmt.Errorf("%g targets of %d", up, 1+len(sidecars))
		}
		return err
	})
	return base
}
