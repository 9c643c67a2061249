package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

// statusDocument is everything that `meshctl status` looks at.
type statusDocument struct {
	SchemaVersion int                      `json:"schemaVersion"`
	HubURL        string                   `json:"hubUrl"`
	Hub           *topologyv1.Status       `json:"hub"`
	WindowSeconds int                      `json:"windowSeconds"`
	Mesh          topologyv1.Mesh          `json:"mesh"`
	PolicyErrors  []topologyv1.PolicyError `json:"policyErrors"`
	// Worst is the service in the worst health, null if all are well.
	Worst *statRow `json:"worst"`
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The mesh on one screen: hub, sidecars, drops, policies, the worst service",
		Example: `  meshctl status
  meshctl status -o wide                       # with a line per sidecar
  meshctl status -o json | jq '.mesh.sidecarsConnected'`,
		Args: arguments(0, 0, "no argument"),
	}
	o := outputFlag(cmd, formatTable, formatWide, formatJSON, formatYAML)
	w := windowFlag(cmd)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := firstError(o.check(cmd), w.check(cmd)); err != nil {
			return err
		}
		doc, err := readStatus(cmd, c, time.Duration(*w))
		if err != nil {
			return err
		}
		if done, err := o.document(a.Out, doc, nil); done {
			return err
		}
		if err := writeStatus(a.Out, doc, a.style()); err != nil || o.format != formatWide || len(doc.Hub.Sidecars) == 0 {
			return err
		}
		fmt.Fprintln(a.Out)
		return sidecarTable(doc.Hub).Write(a.Out, a.style())
	})
	return cmd
}

func readStatus(cmd *cobra.Command, c *client.Client, window time.Duration) (*statusDocument, error) {
	hub, err := c.Status(cmd.Context())
	if err != nil {
		return nil, err
	}
	g, err := c.Graph(cmd.Context(), window)
	if err != nil {
		return nil, err
	}
	policies, err := c.Policies(cmd.Context())
	if err != nil {
		return nil, err
	}
	return &statusDocument{
		SchemaVersion: topologyv1.SchemaVersion, HubURL: c.URL(), Hub: hub, WindowSeconds: g.WindowSeconds,
		Mesh: g.Mesh, PolicyErrors: policies.Errors, Worst: worst(g),
	}, nil
}

// worst is the service in the worst health, among equals the one with the
// largest share of failed requests.
func worst(g *topologyv1.Graph) *statRow {
	var found *statRow
	for _, r := range statRows(g, kindService) {
		if severity(r.Health) <= severity(topologyv1.Healthy) {
			continue
		}
		if found == nil || severity(r.Health) > severity(found.Health) ||
			severity(r.Health) == severity(found.Health) && r.Inbound.ErrorShare > found.Inbound.ErrorShare {
			found = &r
		}
	}
	return found
}

// lines writes "subject  words", the subject once.
type lines struct {
	b     strings.Builder
	style render.Style
	last  string
}

func (l *lines) add(subject string, p render.Paint, format string, args ...any) {
	shown := subject
	if subject == l.last {
		shown = ""
	}
	l.last = subject
	padded := shown + strings.Repeat(" ", max(0, 10-len(shown)))
	l.b.WriteString(l.style.Paint(render.Bold, padded) + l.style.Paint(p, render.Clean(fmt.Sprintf(format, args...))) + "\n")
}

func writeStatus(w io.Writer, d *statusDocument, s render.Style) error {
	l := &lines{style: s}
	hub := d.Hub
	l.add("hub", render.Plain, "version %s at %s (sidecars at %s), up %s", hub.Version, d.HubURL, hub.GRPCAddress, render.Age(hub.NowMillis, hub.StartMillis))
	l.sidecars(hub)
	l.traffic(d)
	l.records(d)
	l.policies(d)
	if d.Worst == nil {
		l.add("worst", render.Green, "no service is unwell")
	} else {
		l.add("worst", render.HealthPaint(d.Worst.Health), "service %s is %s: %s", d.Worst.Name, d.Worst.Health, d.Worst.HealthReason)
	}
	_, err := io.WriteString(w, l.b.String())
	return err
}

func (l *lines) sidecars(hub *topologyv1.Status) {
	connected := 0
	for _, p := range hub.Sidecars {
		if p.Connected {
			connected++
		}
	}
	paint := render.Green
	if connected < len(hub.Sidecars) || connected == 0 {
		paint = render.Yellow
	}
	l.add("sidecars", paint, "%d of %d connected", connected, len(hub.Sidecars))
	for _, p := range hub.Sidecars {
		switch {
		case !p.Connected:
			l.add("sidecars", render.Red, "lost: %s of %s, last report %s ago", p.Name, p.Workload, render.Age(hub.NowMillis, p.LastReportMillis))
		case !p.AppReachable:
			l.add("sidecars", render.Yellow, "application does not accept connections: %s of %s", p.Name, p.Workload)
		}
	}
}

func (l *lines) traffic(d *statusDocument) {
	s := d.Mesh.Signals
	if s.Requests == 0 {
		l.add("traffic", render.Dim, "no request in the last %ds", d.WindowSeconds)
		return
	}
	l.add("traffic", render.Plain, "%s requests/s, %s succeed, p50 %s, p95 %s, p99 %s (last %ds)",
		render.Rate(s.Rate), render.Success(s), render.Millis(s.P50), render.Millis(s.P95), render.Millis(s.P99), d.WindowSeconds)
	if s.Denied+s.Throttled > 0 {
		l.add("traffic", render.Yellow, "policy denied %d and throttled %d", s.Denied, s.Throttled)
	}
}

func (l *lines) records(d *statusDocument) {
	store := d.Hub.Store
	l.add("records", render.Plain, "%d kept in %s, %d of them sealed into %s",
		store.Records, render.Bytes(uint64(max(0, store.Bytes))), store.SealedRecords, render.Count(uint64(max(0, store.Segments)), "segment"))
	if store.UnsealedLogs > 2 {
		l.add("records", render.Yellow, "%d logs wait to be sealed: the hub's disk or processor is too slow, or sealing fails as its log says", store.UnsealedLogs)
	}
	l.bucket(store.Bucket)
	dropped := render.Plain
	if d.Mesh.RecordsLost > 0 || d.Hub.Ingest.Missing > 0 || d.Hub.Ingest.Rejected > 0 || store.Corruptions > 0 {
		dropped = render.Yellow
	}
	l.add("drops", dropped, "%s dropped by sidecars (counts stay exact); %s refused, %d missing, %s damaged",
		render.Count(d.Mesh.RecordsLost, "record"), render.Count(d.Hub.Ingest.Rejected, "batch"), d.Hub.Ingest.Missing, render.Count(store.Corruptions, "frame"))
	switch lag := d.Mesh.LagMillis; {
	case lag < 0:
		l.add("lag", render.Dim, "no sample came in yet")
	case lag > 5000:
		l.add("lag", render.Yellow, "the newest sample is %s old", render.Age(lag+1, 1))
	default:
		l.add("lag", render.Plain, "the newest sample is %s old", render.Age(lag+1, 1))
	}
}

func (l *lines) bucket(b *topologyv1.BucketStatus) {
	if b == nil {
		return
	}
	l.add("bucket", render.Plain, "%s of all hubs in %s, %s; this hub is %s, %d of its segments wait for their upload",
		render.Count(b.Records, "record"), render.Count(uint64(max(0, b.Segments)), "segment"), render.Bytes(uint64(max(0, b.Bytes))), b.Hub, b.Waiting)
	if b.UploadFailures+b.ReadFailures > 0 {
		l.add("bucket", render.Yellow, "%s and %s failed since the hub's start; its log says why",
			render.Count(b.UploadFailures, "upload"), render.Count(b.ReadFailures, "read"))
	}
}

func (l *lines) policies(d *statusDocument) {
	l.add("policies", render.Plain, "%d in force, %s in refused files", len(d.Hub.Policies), render.Count(len(d.PolicyErrors), "problem"))
	for _, p := range d.Hub.Policies {
		paint := render.Plain
		if p.Programmed < p.Sidecars {
			paint = render.Yellow
		}
		l.add("policies", paint, "%s/%s: %s, at %d of %d sidecars", p.Namespace, p.Name, p.Mode, p.Programmed, p.Sidecars)
	}
	for _, e := range d.PolicyErrors {
		l.add("policies", render.Red, "refused: %s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
	}
}

func sidecarTable(hub *topologyv1.Status) *render.Table {
	t := &render.Table{Header: []string{"SIDECAR", "WORKLOAD", "STATE", "LAST REPORT", "RECORDS", "LOST", "VERSION", "ADMIN"}}
	t.Numbers("RECORDS", "LOST")
	for _, p := range hub.Sidecars {
		state := render.Cell{Text: "connected", Paint: render.Green}
		if !p.Connected {
			state = render.Cell{Text: "lost", Paint: render.Red}
		} else if !p.AppReachable {
			state = render.Cell{Text: "app down", Paint: render.Yellow}
		}
		t.Row(p.Name, p.Workload, state, render.Age(hub.NowMillis, p.LastReportMillis), p.Records, p.RecordsLost, p.SoftwareVersion, p.AdminAddress)
	}
	return t
}
