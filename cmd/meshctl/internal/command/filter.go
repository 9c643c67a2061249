package command

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// filter is which records a tap shows. The hub is told what it can decide, so
// that less travels; everything is decided here again, so that a stream and a
// file give the same.
type filter struct {
	service, from, to string
	status            string
	method, path      string
	minMs             float64
}

func (f *filter) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.service, "service", "", "only requests to this service")
	fs.StringVar(&f.status, "status", "", "only this status: a code, a class as 5xx, error (5xx, failed gRPC, no response), denied or throttled")
	fs.Float64Var(&f.minMs, "min-ms", 0, "only requests that took at least this many milliseconds")
	fs.StringVar(&f.method, "method", "", "only this method")
	fs.StringVar(&f.path, "path", "", "only paths that begin with this")
	fs.StringVar(&f.from, "from", "", "only requests of this workload or service")
	fs.StringVar(&f.to, "to", "", "only requests to this workload or service")
}

func (f *filter) check(cmd *cobra.Command) error {
	if f.minMs < 0 {
		return usage(cmd, "--min-ms %g: want 0 or more", f.minMs)
	}
	switch f.status {
	case "", "error", vocab.VerdictDenied, vocab.VerdictThrottled:
		return nil
	}
	if class, ok := strings.CutSuffix(f.status, "xx"); ok && len(class) == 1 && class >= "1" && class <= "5" {
		return nil
	}
	if code, err := strconv.Atoi(f.status); err == nil && code >= 100 && code <= 599 {
		return nil
	}
	return usage(cmd, "--status %q: want a code as 404, a class as 5xx, error, denied or throttled", f.status)
}

// query is the part of the filter that the hub's API takes.
func (f *filter) query() url.Values {
	q := url.Values{}
	if f.service != "" {
		q.Set("service", f.service)
	}
	if f.status != "" {
		q.Set("status", f.status)
	}
	if f.minMs > 0 {
		q.Set("min_ms", strconv.FormatFloat(f.minMs, 'f', -1, 64))
	}
	return q
}

func (f *filter) match(r *topologyv1.Record) bool {
	host, _, _ := strings.Cut(r.DestinationService, ".")
	return (f.service == "" || f.service == r.Destination.Service || f.service == r.DestinationService || f.service == host) &&
		f.matchStatus(r) &&
		r.DurationMs >= f.minMs &&
		(f.method == "" || strings.EqualFold(f.method, r.Method)) &&
		strings.HasPrefix(r.Path, f.path) &&
		matchParty(f.from, r.Source) && matchParty(f.to, r.Destination)
}

// matchStatus: what no response came to is an error, and so is a gRPC call
// that failed under HTTP status 200.
func (f *filter) matchStatus(r *topologyv1.Record) bool {
	switch f.status {
	case "":
		return true
	case "error":
		return r.Code == 0 && r.Protocol != vocab.ProtocolTCP || r.Code >= 500 || r.GRPCStatus != "" && r.GRPCStatus != "0"
	case vocab.VerdictDenied, vocab.VerdictThrottled:
		return r.Verdict == f.status
	}
	if class, ok := strings.CutSuffix(f.status, "xx"); ok {
		return fmt.Sprint(r.Code/100) == class
	}
	return fmt.Sprint(r.Code) == f.status
}

func matchParty(want string, p topologyv1.Party) bool {
	switch want {
	case "", p.Workload, p.Service, p.Namespace + "/" + p.Workload, p.Namespace + "/" + p.Service:
		return true
	case vocab.Unknown:
		return p.Workload == ""
	}
	return false
}
