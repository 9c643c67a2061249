package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
	"github.com/telemesh/telemesh/telemetry-hub/segment/sql"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

const (
	engineAuto     = "auto"
	engineEmbedded = "embedded"
	engineDuckDB   = "duckdb"
	formatCSV      = "csv"
)

// storeQuery is the flags of the command.
type storeQuery struct {
	*app
	output *output
	engine string
	memory int64 // MiB
}

func (a *app) storeQueryCommand() *cobra.Command {
	q := &storeQuery{app: a}
	cmd := &cobra.Command{
		Use:   "query DIR SQL",
		Short: "Ask a record store by SQL",
		Long: `Ask a record store by SQL. There is one table, records; docs/segments.md lists its columns. Durations
are in nanoseconds. Most of SELECT over one table is understood without any other program; with
--engine auto, what is not is given to the program duckdb if it is in PATH. Give bounds on start: what
lies outside of them is not read. Records that are not sealed yet are not asked.`,
		Example: `  meshctl store query DIR "select destination_canonical_service as service, count(*) as n,
      quantile(duration, 0.99) / 1e6 as p99_ms from records
      where start >= now() - interval '15 minutes' group by service order by n desc"
  meshctl store query DIR "select * from records where trace_id = '4bf92f35-77b3-4da6-a3ce-929d0e0e4736'" -o json
  meshctl store query DIR "select attributes['tenant'] as tenant, count(*) from records group by all" -o csv`,
		Args: arguments(2, 2, "DIR and one query (quote it)"),
	}
	q.output = outputFlag(cmd, formatTable, formatJSON, formatCSV)
	cmd.Flags().StringVar(&q.engine, "engine", engineAuto, "auto, embedded or duckdb")
	cmd.Flags().Int64Var(&q.memory, "memory", 256, "MiB that the embedded engine may take for groups, values and rows")
	must(cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions([]string{engineAuto, engineEmbedded, engineDuckDB}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := q.check(cmd); err != nil {
			return err
		}
		files, err := listStore(args[0])
		if err != nil {
			return err
		}
		q.warnUnsealed(files)
		return q.run(cmd.Context(), files, args[1])
	}
	return cmd
}

func (q *storeQuery) check(cmd *cobra.Command) error {
	switch q.engine {
	case engineAuto, engineEmbedded, engineDuckDB:
	default:
		return usage(cmd, "--engine %q: want auto, embedded or duckdb", q.engine)
	}
	if q.memory < 1 || q.memory > 1<<20 {
		return usage(cmd, "--memory %d: want 1 to %d MiB", q.memory, 1<<20)
	}
	return q.output.check(cmd)
}

// warnUnsealed tells of records that the answer lacks.
func (q *storeQuery) warnUnsealed(files store.Files) {
	var l logStats
	for _, err := range l.read(files.Logs) {
		q.warn("%v", err)
	}
	if l.OnlyInLog > 0 {
		q.warn("%s and not asked; a hub seals its logs within some minutes", l.unsealedIn(render.Count(l.Unsealed, "log")))
	}
}

// run chooses the engine.
func (q *storeQuery) run(ctx context.Context, files store.Files, text string) error {
	if q.engine == engineDuckDB {
		return q.runDuckDB(ctx, files, text)
	}
	query, err := sql.Parse(text)
	if err == nil {
		err = sql.Check(query)
	}
	var unsupported *sql.UnsupportedError
	if !errors.As(err, &unsupported) {
		if err != nil {
			return &ExitError{Code: CodeUsage, Err: fmt.Errorf("query: %w", err), Hint: "docs/segments.md lists the columns and what the embedded SQL has; durations are in nanoseconds"}
		}
		return q.runEmbedded(ctx, files, query)
	}
	if q.engine == engineAuto {
		if _, lookErr := exec.LookPath(engineDuckDB); lookErr == nil {
			q.warn("%v; asking it", unsupported)
			return q.runDuckDB(ctx, files, text)
		}
	}
	hint := "install the program duckdb (https://duckdb.org) into PATH; --engine auto then uses it"
	if q.engine == engineEmbedded {
		hint = "leave --engine away, or say --engine duckdb"
	}
	return &ExitError{Code: CodeUsage, Err: fmt.Errorf("query: %w", unsupported), Hint: hint}
}

func (q *storeQuery) runEmbedded(ctx context.Context, files store.Files, query *sql.Query) error {
	d, err := segment.NewDecoder()
	if err != nil {
		return err
	}
	defer d.Close()
	opened, missing, errs := openStore(files, d)
	defer closeStore(opened)
	q.warnMissing(missing)
	segments := make([]*segment.Segment, len(opened))
	for i, r := range opened {
		segments[i] = r.Segment
	}
	result, err := sql.Run(ctx, query, segments, sql.Options{Now: q.Now(), Memory: q.memory << 20})
	var memory *sql.MemoryError
	if errors.As(err, &memory) {
		return &ExitError{Code: CodeFailure, Err: err, Hint: "or allow more with --memory, or let DuckDB use the disk: --engine duckdb"}
	}
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for _, n := range result.Notes {
		q.warn("%s", n)
	}
	if err := q.write(result); err != nil {
		return err
	}
	if errs = append(errs, result.Damaged...); len(errs) > 0 {
		for _, err := range errs {
			q.warn("%v", err)
		}
		return &ExitError{Code: CodeFailure, Err: fmt.Errorf("the answer lacks what could not be read, %s", render.Count(len(errs), "place")), Hint: "`meshctl store verify` says what is damaged and what to do"}
	}
	return nil
}

// runDuckDB gives the query to the program duckdb, with the segments as the view
// records.
func (q *storeQuery) runDuckDB(ctx context.Context, files store.Files, text string) error {
	program, err := exec.LookPath(engineDuckDB)
	if err != nil {
		return &ExitError{Code: CodeFailure, Err: fmt.Errorf("the program duckdb is not in PATH"), Hint: "install it from https://duckdb.org, or use --engine embedded"}
	}
	view, err := duckDBView(files)
	if err != nil {
		return err
	}
	args := []string{"-init", "/dev/null", "-cmd", view}
	switch q.output.format {
	case formatJSON:
		args = append(args, "-json")
	case formatCSV:
		args = append(args, "-csv")
	}
	// No secret is in the query that could be seen among the processes.
	cmd := exec.CommandContext(ctx, program, append(args, "-c", text)...)
	cmd.Stdout, cmd.Stderr = q.Out, q.Err
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Exited() {
			return &ExitError{Code: CodeFailure} // it has told why
		}
		return fmt.Errorf("run duckdb: %w", err)
	}
	return nil
}

func duckDBView(files store.Files) (string, error) {
	var list []string
	for _, f := range files.Segments {
		if !f.Replaced {
			list = append(list, "'"+strings.ReplaceAll(f.Path, "'", "''")+"'")
		}
	}
	if len(list) == 0 {
		return "", &ExitError{Code: CodeFailure, Err: errors.New("nothing is sealed yet"), Hint: "a hub seals its log after some minutes; until then ask it: `meshctl trace`"}
	}
	return "create view records as select * from read_parquet([" + strings.Join(list, ", ") + "], union_by_name = true)", nil
}
