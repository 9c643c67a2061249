package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

// Exit codes of meshctl. CodeUsage is sysexits' EX_USAGE.
const (
	CodeFailure     = 1
	CodeProblems    = 2 // a check or lint ended and found something
	CodeUnreachable = 3 // no hub
	CodeUsage       = 64
)

// ExitError is an error with its exit code and the next step.
type ExitError struct {
	Code int
	Err  error // nil: everything was said already
	Hint string
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// usage is an error of who wrote the command line.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &ExitError{Code: CodeUsage, Err: fmt.Errorf(format, args...), Hint: "see `" + cmd.CommandPath() + " --help`"}
}

// Execute runs the command line, tells errors on stderr and returns the exit
// code. A command that runs until it is stopped returns nil then; any other
// was cut short and fails.
func Execute(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	code, hint := codeOf(err)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		return code
	}
	tell(stderr, "error:", err.Error())
	if hint != "" {
		tell(stderr, "hint:", hint)
	}
	return code
}

// tell prints what may come from the network, line by line.
func tell(w io.Writer, what, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(w, what, render.Clean(line))
	}
}

// codeOf is the one table from errors to exit codes and next steps.
func codeOf(err error) (code int, hint string) {
	var exit *ExitError
	var unreachable *client.UnreachableError
	var refusal *client.Error
	switch {
	case errors.As(err, &exit):
		return exit.Code, exit.Hint
	case errors.As(err, &unreachable):
		return CodeUnreachable, "start one with `meshctl up`, or say where it is with --hub URL or " + envHub
	case errors.As(err, &refusal):
		hint = refusal.Hint
		if hint == "" && refusal.Status >= http.StatusInternalServerError {
			hint = "the hub's log says more; `meshctl status` shows whether it is well"
		}
		return CodeFailure, hint
	}
	return CodeFailure, ""
}
