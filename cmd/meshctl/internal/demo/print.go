package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// announce says where everything is, and writes the ready file.
func announce(o Options, m *mesh, requestID string) error {
	r := Ready{
		UI: m.hub.URL(), Hub: m.hub.URL(), GRPC: m.hub.GRPC, RequestID: requestID,
		Productpage: "http://" + m.find("productpage").sidecar.Inbound + "/productpage",
		Services:    map[string]string{}, Admins: map[string]string{"loadgen-v1": m.load.Admin},
		PIDs:     map[string]int{"hub": m.hub.Process().PID(), "loadgen-v1/sidecar": m.load.Process().PID()},
		Outbound: m.load.Outbound, Logs: m.dir,
	}
	for _, s := range m.services {
		name := s.name + "-" + s.version
		r.Services[name], r.Admins[name] = s.direct(), s.sidecar.Admin
		r.PIDs[name], r.PIDs[name+"/sidecar"] = s.process.PID(), s.sidecar.Process().PID()
	}
	if !o.JSON {
		printReady(o, r)
	}
	if o.ReadyFile == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.ReadyFile+".new", b, 0o644); err != nil {
		return fmt.Errorf("write ready file: %w", err)
	}
	return os.Rename(o.ReadyFile+".new", o.ReadyFile)
}

func printReady(o Options, r Ready) {
	hub := ""
	if r.Hub != "http://127.0.0.1:15080" {
		hub = " --hub " + r.Hub
	}
	until := "Ctrl-C stops everything."
	if o.Duration > 0 {
		until = fmt.Sprintf("It ends after %s.", o.Duration)
	}
	fmt.Fprintf(o.Out, `telemesh is running: a hub, six services behind seven sidecars, %g requests a second. %s

  UI            %s
  Bookinfo      %s
  Logs          %s

Look a request up:
  request ID    %s
  meshctl%s trace %s
  %s/?request=%s

Break a service and find the request that failed:
  curl -X POST '%s/fault?spec=error%%3D50%%25'
  meshctl%s tap --status error
  curl -X DELETE '%s/fault'

`, o.Rate, until, r.UI, r.Productpage, r.Logs, r.RequestID, hub, r.RequestID, r.UI, r.RequestID,
		r.Services["ratings-v1"], hub, r.Services["ratings-v1"])
}

func printResult(w io.Writer, r Result) {
	fmt.Fprintf(w, "Sent %d requests, %d failed. Looked up %d request IDs, found %d with all hops. Policy throttled %d and denied %d.\n\n",
		r.Sent, r.Failed, r.Lookups.Asked, r.Lookups.Found, r.Throttled, r.Denied)
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "EDGE\tPROTOCOL\tSIDE\tSERVICES\tSIDECARS\tHUB\tPROMQL")
	for _, e := range r.Edges {
		fmt.Fprintf(t, "%s → %s\t%s\tcaller\t%d\t%d\t%d\t%d\n", e.Source, e.Destination, e.Protocol, e.Services, e.Sidecars, e.Hub, e.PromQL)
		fmt.Fprintf(t, "\t\tcallee\t%d\t%d\t%d\t%d\n", e.Received.Services, e.Received.Sidecars, e.Received.Hub, e.Received.PromQL)
	}
	_ = t.Flush() // a reader that left needs no table
	if r.Agree {
		fmt.Fprintln(w, "\nAll counts agree, edge by edge.")
	}
}
