package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/vocab"
)

const formatCompact = "compact"

// errEnough ends a tap that showed as many records as were asked for.
var errEnough = errors.New("enough records")

// tapLine is one line of -o json, which --input reads.
type tapLine struct {
	SchemaVersion int `json:"schemaVersion"`
	*topologyv1.Record
}

func (a *app) tapCommand() *cobra.Command {
	t := &tap{app: a}
	var input string
	cmd := &cobra.Command{
		Use:   "tap",
		Short: "Watch requests as they end",
		Long: `Watch requests as they end, until Ctrl-C. A request between two sidecars shows twice, once from
each side. With -o json each line is one object; --input filters such a file again.`,
		Example: `  meshctl tap --status error                              # what fails, as it fails
  meshctl tap --to reviews --min-ms 100 --limit 20        # twenty slow ones
  meshctl tap -o json > day.jsonl; meshctl tap --input day.jsonl --status 429`,
		Args: arguments(0, 0, "no argument (filters are flags)"),
	}
	t.filter.flags(cmd)
	t.output = outputFlag(cmd, formatCompact, formatJSON)
	cmd.Flags().IntVar(&t.maxRPS, "max-rps", 100, "show at most this many a second, 0 for all; -o json shows all unless this is given")
	cmd.Flags().IntVar(&t.limit, "limit", 0, "end after this many, 0 for never")
	cmd.Flags().StringVar(&input, "input", "", "read this file, written by -o json, instead of the hub; - is stdin")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := firstError(t.output.check(cmd), t.filter.check(cmd)); err != nil {
			return err
		}
		if t.maxRPS < 0 || t.limit < 0 {
			return usage(cmd, "--max-rps and --limit: want 0 or more")
		}
		t.style = a.style()
		run := a.withClient(t.live)
		if t.output.format == formatJSON && !cmd.Flags().Changed("max-rps") {
			t.maxRPS = 0 // the default is for eyes
		}
		if input != "" {
			// A file does not come at a pace that needs a bound.
			t.maxRPS = 0
			run = func(*cobra.Command, []string) error { return t.file(input) }
		}
		err := run(cmd, args)
		t.tellLeftOut()
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	return cmd
}

// tap shows the records that pass its filter.
type tap struct {
	*app
	filter filter
	output *output
	style  render.Style

	maxRPS, limit int
	shown         int

	second   int64 // Unix time of the second that inSecond counts
	inSecond int
	leftOut  uint64
}

func (t *tap) live(cmd *cobra.Command, c *client.Client, _ []string) error {
	return c.Tap(cmd.Context(), t.filter.query(), client.Tap{
		Record: t.take,
		Lagged: func() {
			t.warn("the hub left requests out, more came than it could send; narrow the filters")
		},
	})
}

func (t *tap) file(path string) error {
	in := t.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open --input: %w", err)
		}
		defer f.Close()
		in = f
	}
	if err := client.Records(in, t.take); err != nil {
		if errors.Is(err, errEnough) {
			return err
		}
		return &ExitError{Code: CodeFailure, Err: fmt.Errorf("read %s: %w", path, err), Hint: "--input takes what `meshctl tap -o json` wrote"}
	}
	return nil
}

// take shows a record if it passes.
func (t *tap) take(r *topologyv1.Record) error {
	if !t.filter.match(r) || !t.admit() {
		return nil
	}
	if err := t.show(t.Out, r); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if t.shown++; t.limit > 0 && t.shown >= t.limit {
		return errEnough
	}
	return nil
}

// admit keeps to --max-rps, by seconds of the clock.
func (t *tap) admit() bool {
	if t.maxRPS == 0 {
		return true
	}
	if now := t.Now().Unix(); now != t.second {
		t.second, t.inSecond = now, 0
	}
	if t.inSecond >= t.maxRPS {
		t.leftOut++
		return false
	}
	t.inSecond++
	return true
}

func (t *tap) tellLeftOut() {
	if t.leftOut > 0 {
		t.warn("%s left out to keep to --max-rps %d", render.Count(t.leftOut, "record"), t.maxRPS)
	}
}

func (t *tap) show(w io.Writer, r *topologyv1.Record) error {
	if t.output.format == formatJSON {
		b, err := json.Marshal(tapLine{topologyv1.SchemaVersion, r})
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	}
	_, err := fmt.Fprintln(w, compactLine(r, t.style))
	return err
}

func compactLine(r *topologyv1.Record, s render.Style) string {
	status := render.Status(r)
	if r.Code == 0 && r.GRPCStatus == "" {
		status = render.None
	}
	line := fmt.Sprintf("%s %-11s %s → %s  %s %s  %s %s",
		time.Unix(0, r.StartUnixNano).UTC().Format("15:04:05.000"), render.Clean(r.Reporter),
		partyName(r.Source), partyName(r.Destination), render.Clean(r.Method), render.Clean(r.Path),
		s.Paint(render.StatusPaint(r), status), render.Millis(r.DurationMs))
	if r.Flags != "" && r.Flags != vocab.NoFlags {
		line += " " + s.Paint(render.Yellow, render.Clean(r.Flags))
	}
	if r.Verdict != "" && r.Verdict != vocab.VerdictOK {
		line += " " + s.Paint(render.Yellow, render.Clean(r.Verdict+" by "+r.Rule))
	}
	return line + "  " + s.Paint(render.Dim, render.Clean(r.RequestID))
}

func partyName(p topologyv1.Party) string {
	switch {
	case p.Workload != "":
		return render.Clean(p.Workload)
	case p.Service != "":
		return render.Clean(p.Service)
	}
	return vocab.Unknown
}
