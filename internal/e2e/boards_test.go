//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/telemesh/telemesh/dashboards"
)

// boardsPolicy refuses some of everything, so that the policy panels have data.
const boardsPolicy = `apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ratings, namespace: default}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - name: some
    limit: {rates: [{limit: 5, window: 1s}]}
`

func TestEveryQueryOfEveryBoardHasAnAnswer(t *testing.T) {
	policies := t.TempDir()
	if err := os.WriteFile(filepath.Join(policies, "ratings.yaml"), []byte(boardsPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	d := startDemo(t, "--rate", "20", "--fault", "error=20%", "--policy-dir", policies)
	// Every metric needs two samples at least.
	eventually(t, 60*time.Second, "the verdicts are in the metrics", func() error {
		n, err := promql(d.Hub, `sum(rate(mesh_policy_checks_total{decision="throttle"}[15s]))`)
		if err == nil && n == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	boards := dashboards.Generate(dashboards.FromGraph(ptr(d.graph(60))))
	if len(boards) < 10 {
		t.Errorf("%d boards: want mesh, hub, 5 services and 7 workloads or so", len(boards))
	}
	var queries, empty int
	for _, b := range boards {
		for _, q := range b.Queries() {
			queries++
			expr := q.Resolve(nil)
			_, err := promql(d.Hub, expr)
			if err == nil {
				continue
			}
			empty++
			if q.MayBeEmpty == "" {
				t.Errorf("board %s, panel %s: %v", q.Board, q.Panel, err)
			}
		}
	}
	t.Logf("%d boards, %d queries, %d of them empty for a listed reason", len(boards), queries, empty)
}

func TestMeshctlWritesTheBoards(t *testing.T) {
	d := startDemo(t)
	dir := filepath.Join(t.TempDir(), "grafana")
	eventually(t, 30*time.Second, "boards are written", func() error {
		out, errs, code := d.meshctl("dashboard", "grafana", "--dir", dir)
		if code != 0 {
			return fmt.Errorf("exit %d: %s%s", code, out, errs)
		}
		files, err := filepath.Glob(filepath.Join(dir, "boards", "*.json"))
		if err == nil && len(files) < 10 {
			err = fmt.Errorf("%d boards", len(files))
		}
		return err
	})
}

func ptr[T any](v T) *T { return &v }
