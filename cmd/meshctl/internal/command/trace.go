package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/ids"
)

const (
	// Sidecars report once a second; what ended longer ago than settleTime is
	// complete or stays incomplete.
	settleTime = 1500 * time.Millisecond
	askEvery   = 100 * time.Millisecond
)

func (a *app) traceCommand() *cobra.Command {
	var wait time.Duration
	var detail bool
	cmd := &cobra.Command{
		Use:   "trace REQUEST_ID|TRACE_ID|TRACEPARENT",
		Short: "What became of one request: every hop from both sides, as a waterfall",
		Long: `What became of one request: every hop from both sides, policy verdicts, and what is missing.
Every request is kept, whether sampled or not. Records arrive within about a second, so a request
that is not there or only just ended is asked for again until --wait has passed.

With --detail also headers, attempts and policy decisions of every hop. Sidecars keep them of
their newest requests, and send them of those that failed or were slow; of another one they are
ordered now. Where there are none, it says why.`,
		Example: `  meshctl trace 4bf92f35-77b3-4da6-a3ce-929d0e0e4736                       # x-request-id of the response
  meshctl trace 4bf92f35-77b3-4da6-a3ce-929d0e0e4736 --detail              # with headers and attempts
  meshctl trace 4bf92f3577b34da6a3ce929d0e0e4736 -o json                   # trace ID
  meshctl trace 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01    # traceparent header`,
		Args: arguments(1, 1, "one request ID, trace ID or traceparent"),
	}
	o := outputFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Second, "how long to wait for records that are on their way")
	cmd.Flags().BoolVar(&detail, "detail", false, "also headers, attempts and policy decisions of every hop")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		if args[0] == "" || wait < 0 {
			return usage(cmd, "want an ID that is not empty, and a --wait that is not negative")
		}
		t, err := a.settled(cmd.Context(), c, args[0], wait)
		if client.NotFound(err) {
			return notFound(cmd.Context(), c, args[0], wait)
		}
		if err == nil && detail {
			t, err = c.TraceWithDetails(cmd.Context(), args[0])
		}
		if err != nil {
			return err
		}
		if done, err := o.document(a.Out, t, nil); done {
			return err
		}
		if err := render.Waterfall(a.Out, t, a.style()); err != nil || !detail {
			return err
		}
		return render.Details(a.Out, t, a.style())
	})
	return cmd
}

// settled asks for a request until it is there and all its records had time to
// arrive, at most for the time given. Then it answers what there is.
func (a *app) settled(ctx context.Context, c *client.Client, id string, wait time.Duration) (*topologyv1.Trace, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for {
		t, err := c.Trace(ctx, id)
		if err != nil && !client.NotFound(err) {
			return nil, err
		}
		if err == nil && a.isSettled(t) {
			return t, nil
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return c.Trace(ctx, id)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *app) isSettled(t *topologyv1.Trace) bool {
	end := time.Unix(0, t.StartUnixNano).Add(time.Duration(t.DurationMs * float64(time.Millisecond)))
	return a.Now().Sub(end) >= settleTime
}

// notFound says what was searched and what to do now.
func notFound(ctx context.Context, c *client.Client, id string, wait time.Duration) error {
	what := fmt.Sprintf("request ID %q", id)
	if p, ok := ids.ParseTraceparent(id); ok {
		what = fmt.Sprintf("trace ID %s (of the traceparent)", p.TraceID)
	} else if t, ok := ids.ParseTraceID(id); ok {
		what += fmt.Sprintf(" or trace ID %s", t)
	}
	s, err := c.Status(ctx)
	if err != nil {
		return fmt.Errorf("no record of %s, and: %w", what, err)
	}
	where := fmt.Sprintf("%s of the hub at %s", render.Count(s.Store.Records, "record"), c.URL())
	if s.Store.OldestMilli > 0 {
		where += " since " + time.UnixMilli(s.Store.OldestMilli).UTC().Format(time.RFC3339)
	}
	return &ExitError{
		Code: CodeFailure,
		Err:  fmt.Errorf("no record of %s: searched %s for %s", what, where, wait),
		Hint: "check that the request passed a sidecar (the response carries x-request-id) and that none is lost or dropping records: `meshctl status`; watch requests come in: `meshctl tap`",
	}
}
