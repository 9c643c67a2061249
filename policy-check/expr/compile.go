package expr

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxLength bounds an expression in bytes: compilation happens in the sidecar
// as well, for every policy that targets it.
const maxLength = 4096

// Problem is why an expression was refused. Line and Column count from 1
// within the expression; Column counts runes.
type Problem struct {
	Line, Column int
	Reason       string
}

// Compiler turns text into programs. It is safe for concurrent use. Compiling
// takes hundreds of microseconds, so it belongs to configuration time.
type Compiler struct {
	env   *cel.Env
	names map[string]Attribute
}

// NewCompiler prepares the typed environment. It fails only if this package is
// broken.
func NewCompiler() (*Compiler, error) {
	names := make(map[string]Attribute, attributeCount)
	opts := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxLength),
		cel.ParserRecursionLimit(50),
		// A regular expression or a timestamp in a literal is checked now, not
		// on the first request that meets it.
		cel.ExtendedValidations(),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(1)),
		cel.Variable(headers, cel.MapType(cel.StringType, cel.StringType)),
	}
	for a := range attributeCount {
		names[a.String()] = a
		opts = append(opts, cel.Variable(a.String(), cel.StringType))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare expressions: %w", err)
	}
	return &Compiler{env: env, names: names}, nil
}

// Bool compiles an expression that must yield a bool.
func (c *Compiler) Bool(text string) (*BoolProgram, []Problem) {
	ast, problems := c.check(text, cel.BoolType)
	if len(problems) > 0 {
		return nil, problems
	}
	rep := ast.NativeRep()
	read := reads(rep, c.names)
	if fast := newLowerer(rep, c.names).bool(rep.Expr()); fast != nil {
		return &BoolProgram{fast: fast, reads: read}, nil
	}
	p, problems := c.interpret(ast)
	return &BoolProgram{slow: p, reads: read}, problems
}

// String compiles an expression that must yield a string.
func (c *Compiler) String(text string) (*StringProgram, []Problem) {
	ast, problems := c.check(text, cel.StringType)
	if len(problems) > 0 {
		return nil, problems
	}
	rep := ast.NativeRep()
	if fast := newLowerer(rep, c.names).text(rep.Expr()); fast != nil {
		return &StringProgram{fast: fast}, nil
	}
	p, problems := c.interpret(ast)
	return &StringProgram{slow: p}, problems
}

func (c *Compiler) check(text string, want *cel.Type) (*cel.Ast, []Problem) {
	if strings.TrimSpace(text) == "" {
		return nil, problemf(1, 1, "empty expression")
	}
	if len(text) > maxLength {
		return nil, problemf(1, 1, "expression of %d bytes is longer than %d", len(text), maxLength)
	}
	ast, issues := c.env.Compile(text)
	if issues.Err() != nil {
		return nil, c.problems(text, issues)
	}
	if got := ast.OutputType(); !got.IsExactType(want) {
		return nil, problemf(1, 1, "expression is of type %s, must be %s", got, want)
	}
	return ast, restrict(ast.NativeRep())
}

func (c *Compiler) interpret(ast *cel.Ast) (interpreted, []Problem) {
	p, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return interpreted{}, problemf(1, 1, "%v", err)
	}
	return interpreted{program: p, names: c.names}, nil
}

// problems translates the checker's issues. The checker names only the first
// part of an unknown dotted name; people need the whole and what is known.
func (c *Compiler) problems(text string, issues *cel.Issues) []Problem {
	var out []Problem
	for _, e := range issues.Errors() {
		p := Problem{Line: e.Location.Line(), Column: e.Location.Column() + 1, Reason: e.Message}
		if p.Line < 1 {
			p.Line, p.Column = 1, 1
		}
		if rest, ok := strings.CutPrefix(e.Message, "undeclared reference to '"); ok {
			name, hint, _ := strings.Cut(rest, "'")
			p = c.undeclared(text, p, name, hint)
		}
		p.Reason = strings.Join(strings.Fields(p.Reason), " ")
		out = append(out, p)
	}
	if len(out) == 0 {
		return problemf(1, 1, "%v", issues.Err())
	}
	return out
}

func (c *Compiler) unknownName(name string) string {
	reason := fmt.Sprintf("unknown name %s", name)
	if near := Nearest(name, c.known()); near != "" {
		return reason + "; did you mean " + near + "?"
	}
	group, _, dotted := strings.Cut(name, ".")
	var same []string
	for _, k := range c.known() {
		if dotted && strings.HasPrefix(k, group+".") {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		return reason + "; known are " + strings.Join(same, ", ")
	}
	return reason + "; attributes begin with request., source. or destination."
}

func (c *Compiler) known() []string {
	known := []string{headers}
	for a := range attributeCount {
		known = append(known, a.String())
	}
	return known
}

// undeclared words an "undeclared reference" to name. The checker points at
// the name, or at the parenthesis of a call, or at a dot inside the name, and
// may stop before a part of it.
func (c *Compiler) undeclared(text string, p Problem, name, hint string) Problem {
	lines := strings.Split(text, "\n")
	if p.Line > len(lines) {
		return p
	}
	line := []rune(lines[p.Line-1])
	at := min(p.Column-1, len(line))
	if at < len(line) && line[at] == '(' {
		p.Column = max(p.Column-len(name), 1)
		p.Reason = "unknown function " + name
		if _, near, ok := strings.Cut(hint, "did you mean '"); ok {
			near, _, _ = strings.Cut(near, "'")
			p.Reason += "; did you mean " + near + "?"
		}
		return p
	}
	for i := range len(name) + 1 {
		start := at - i
		if start >= 0 && strings.HasPrefix(string(line[start:]), name) {
			end := start
			for end < len(line) && (isWord(line[end]) || line[end] == '.' && end+1 < len(line) && isWord(line[end+1])) {
				end++
			}
			p.Column, name = start+1, string(line[start:end])
			break
		}
	}
	p.Reason = c.unknownName(name)
	return p
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func problemf(line, column int, format string, args ...any) []Problem {
	return []Problem{{Line: line, Column: column, Reason: fmt.Sprintf(format, args...)}}
}

// interpreted is an expression that cel-go evaluates.
type interpreted struct {
	program cel.Program
	names   map[string]Attribute
}

func (p interpreted) eval(s Source) (ref.Val, error) {
	out, _, err := p.program.Eval(&activation{source: s, names: p.names})
	return out, err
}

// BoolProgram is a compiled condition, safe for concurrent use.
type BoolProgram struct {
	fast  boolNode // nil if the expression has a form that is not lowered
	slow  interpreted
	reads []string
}

// Reads names what the condition asks of a request, sorted: attributes as
// expressions spell them, headers as request.headers["x-user"], and
// request.headers alone if the name is computed. Requests that agree in these
// get the same answer. The slice is the program's.
func (p *BoolProgram) Reads() []string { return p.reads }

// Eval evaluates the condition. An error (a header that is not there, say)
// leaves the answer false.
func (p *BoolProgram) Eval(s Source) (bool, error) {
	if p.fast != nil {
		return p.fast(s)
	}
	out, err := p.slow.eval(s)
	if err != nil {
		return false, err
	}
	yes, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("condition did not yield a bool")
	}
	return bool(yes), nil
}

// StringProgram is a compiled key, safe for concurrent use.
type StringProgram struct {
	fast textNode
	slow interpreted
}

// Eval evaluates the key.
func (p *StringProgram) Eval(s Source) (string, error) {
	if p.fast != nil {
		return p.fast(s)
	}
	out, err := p.slow.eval(s)
	if err != nil {
		return "", err
	}
	text, ok := out.(types.String)
	if !ok {
		return "", errors.New("key did not yield a string")
	}
	return string(text), nil
}
