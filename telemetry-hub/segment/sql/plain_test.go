package sql

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// patterns that plain has compiled; only one test runs it.
var patterns = make(map[string]*regexp.Regexp)

// plain evaluates an expression for one record, the plain way: a value at a
// time, with none of the code that is tested but the parser.
func plain(e Expr, row map[string]Value) Value {
	truthOf := func(b bool) Value { return Value{Kind: KindBool, Int: truth(b)} }
	switch e := e.(type) {
	case *Literal:
		return e.Value
	case *Ref, *Attribute:
		return row[e.String()]
	case *IsNull:
		return truthOf((plain(e.X, row).Kind == KindNull) != e.Not)
	case *Unary:
		x := plain(e.X, row)
		if x.Kind == KindNull {
			return x
		}
		if e.Op == "not" {
			return truthOf(x.Int == 0)
		}
		return Value{Kind: x.Kind, Int: -x.Int, Float: -x.Float}
	case *Binary:
		return plainBinary(e.Op, plain(e.L, row), plain(e.R, row))
	case *Between:
		x := plain(e.X, row)
		in := plainBinary("and", plainBinary(">=", x, plain(e.Low, row)), plainBinary("<=", x, plain(e.High, row)))
		if e.Not && in.Kind != KindNull {
			return truthOf(in.Int == 0)
		}
		return in
	case *In:
		x := plain(e.X, row)
		if x.Kind == KindNull {
			return x
		}
		hit := false
		for _, item := range e.List {
			hit = hit || plainBinary("=", x, plain(item, row)).Int != 0
		}
		return truthOf(hit != e.Not)
	case *Like:
		x := plain(e.X, row)
		if x.Kind == KindNull {
			return x
		}
		pattern := strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(e.Pattern))
		if e.Fold {
			pattern = "(?i)" + pattern
		}
		if patterns[pattern] == nil {
			patterns[pattern] = regexp.MustCompile("(?s)^" + pattern + "$")
		}
		return truthOf(patterns[pattern].MatchString(x.Text) != e.Not)
	}
	panic(fmt.Sprintf("%T", e))
}

func plainBinary(op string, l, r Value) Value {
	if op == "and" || op == "or" {
		decides := truth(op == "or")
		switch {
		case l.Kind != KindNull && l.Int == decides, r.Kind != KindNull && r.Int == decides:
			return Value{Kind: KindBool, Int: decides}
		case l.Kind == KindNull || r.Kind == KindNull:
			return Value{}
		}
		return Value{Kind: KindBool, Int: 1 - decides}
	}
	if l.Kind == KindNull || r.Kind == KindNull {
		return Value{}
	}
	double := func(v Value) float64 {
		if v.Kind == KindFloat {
			return v.Float
		}
		return float64(v.Int)
	}
	order := 0
	switch {
	case l.Kind == KindText:
		order = cmp.Compare(l.Text, r.Text)
	case l.Kind == KindFloat || r.Kind == KindFloat:
		order = cmp.Compare(double(l), double(r))
	default:
		order = cmp.Compare(l.Int, r.Int)
	}
	hit := map[string]bool{"=": order == 0, "<>": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}
	if is, ok := hit[op]; ok {
		return Value{Kind: KindBool, Int: truth(is)}
	}
	switch {
	case op == "%" && r.Int == 0, op == "/" && double(r) == 0:
		return Value{}
	case op == "%":
		return Value{Kind: KindInt, Int: l.Int % r.Int}
	case op == "/":
		return Value{Kind: KindFloat, Float: double(l) / double(r)}
	case op == "+":
		return Value{Kind: l.Kind, Int: l.Int + r.Int}
	case op == "-":
		return Value{Kind: l.Kind, Int: l.Int - r.Int}
	}
	panic(op)
}

// condition draws a condition of WHERE, those that the scan knows among them.
func condition(t *rapid.T, depth int) string {
	number := func(low, high int) int { return rapid.IntRange(low, high).Draw(t, "number") }
	compares := rapid.SampledFrom([]string{"=", "<>", "<", "<=", ">", ">="})
	services := rapid.SampledFrom([]string{"'reviews'", "'ratings'", "'productpage'", "'none'", "''"})
	moment := func() string {
		return fmt.Sprintf("timestamp '2026-11-21 10:00:%02d.%03d'", number(0, 40), number(0, 999))
	}
	choices := []func() string{
		func() string { return "start " + compares.Draw(t, "op") + " " + moment() },
		func() string { return moment() + " <= start" },
		func() string { return "start between " + moment() + " and " + moment() },
		func() string { return fmt.Sprintf("duration %s %d", compares.Draw(t, "op"), number(0, 9_000_000)) },
		func() string { return fmt.Sprintf("duration > %d.5", number(0, 9_000_000)) },
		func() string { return fmt.Sprintf("duration / 1e6 %s %d.25", compares.Draw(t, "op"), number(0, 9)) },
		func() string {
			return fmt.Sprintf("code %s %d", compares.Draw(t, "op"), rapid.SampledFrom([]int{0, 200, 201, 500, 503}).Draw(t, "code"))
		},
		func() string { return "destination_canonical_service = " + services.Draw(t, "service") },
		func() string { return "source_canonical_service <> " + services.Draw(t, "service") },
		func() string { return "source_canonical_service = " + services.Draw(t, "service") },
		func() string { return "protocol = 'grpc'" },
		func() string { return fmt.Sprintf("path like '/%s/%d%%'", "reviews", number(1, 9)) },
		func() string { return fmt.Sprintf("path not like '%%%d_'", number(1, 9)) },
		func() string { return "path ilike '/R%S/%'" },
		func() string { return fmt.Sprintf("grpc_status %s %d", compares.Draw(t, "op"), number(0, 16)) },
		func() string { return fmt.Sprintf("grpc_status + 1 in (%d, %d)", number(0, 16), number(0, 16)) },
		func() string { return "grpc_status is not null" },
		func() string { return fmt.Sprintf("attributes['tenant'] = 'tenänt-%d'", number(0, 5)) },
		func() string { return "attributes['tier'] is null" },
		func() string { return fmt.Sprintf("request_id = 'order-%d'", number(0, 255)) },
		func() string { return "sampled" },
		func() string { return fmt.Sprintf("bytes_in %% %d = 0", number(0, 5)) },
		func() string { return "destination_workload in ('reviews-v1', 'reviews-v3', 'x')" },
		func() string { return "source_workload = destination_workload" },
	}
	if depth > 0 && rapid.Bool().Draw(t, "deeper") {
		switch op := rapid.SampledFrom([]string{"and", "and", "or", "not"}).Draw(t, "join"); op {
		case "not":
			return "not (" + condition(t, depth-1) + ")"
		default:
			return "(" + condition(t, depth-1) + " " + op + " " + condition(t, depth-1) + ")"
		}
	}
	return rapid.SampledFrom(choices).Draw(t, "condition")()
}

// TestQueriesEqualThePlainEvaluation draws conditions and keys, and compares with
// one record after the other.
func TestQueriesEqualThePlainEvaluation(t *testing.T) {
	segments := openTest(t, sealTest(t, 1, 9_000))
	rows := plainRecords(t, segments)
	keys := []string{
		"reporter", "code", "grpc_status", "attributes['tenant']", "destination_canonical_service", "sampled", "path", "bytes_in % 7", "trace_id",
	}
	matched := 0
	rapid.Check(t, func(rt *rapid.T) {
		where := condition(rt, 3)
		by := rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 3, rapid.ID).Draw(rt, "keys")
		text := "select " + strings.Join(append(slices.Clone(by), plainAggregates...), ", ") + " from records where " + where
		if len(by) > 0 {
			text += " group by " + strings.Join(by, ", ")
		}
		got := mustRun(t, segments, text)
		want, n := plainAnswer(t, text, rows, len(by))
		matched += n
		var have []string
		for _, row := range got.Rows {
			have = append(have, line(row))
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			rt.Fatalf("%s\n%d rows, want %d\ngot  %.2000s\nwant %.2000s", text, len(have), len(want), strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
	})
	if matched == 0 {
		t.Error("no condition matched anything")
	}
}

var plainAggregates = []string{"count(*)", "count(grpc_status)", "sum(duration)", "min(path)", "max(start)", "avg(bytes_out)", "count(distinct path)", "quantile(duration, 0.9)"}

func line(row []Value) string {
	var parts []string
	for _, v := range row {
		if v.Kind == KindFloat {
			parts = append(parts, fmt.Sprintf("%.9g", v.Float))
			continue
		}
		parts = append(parts, v.Kind.String()+" "+v.String())
	}
	return strings.Join(parts, "|")
}

// plainAnswer computes plainAggregates by keys.
func plainAnswer(t *testing.T, text string, rows []map[string]Value, keys int) (lines []string, matched int) {
	t.Helper()
	q, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	groups, values := make(map[string][]map[string]Value), make(map[string][]Value)
	if keys == 0 {
		groups[""] = nil
	}
	for _, row := range rows {
		if v := plain(q.Where, row); v.Kind == KindNull || v.Int == 0 {
			continue
		}
		matched++
		var of []Value
		for _, item := range q.Select[:keys] {
			of = append(of, plain(item.Expr, row))
		}
		key := line(of)
		groups[key], values[key] = append(groups[key], row), of
	}
	for key, members := range groups {
		lines = append(lines, line(append(values[key], aggregatePlainly(members)...)))
	}
	slices.Sort(lines)
	return lines, matched
}

func aggregatePlainly(rows []map[string]Value) []Value {
	number := func(n int64) Value { return Value{Kind: KindInt, Int: n} }
	if len(rows) == 0 {
		return []Value{number(0), number(0), {}, {}, {}, {}, number(0), {}}
	}
	var statuses, duration, out int64
	var durations []int64
	path, last, paths := rows[0]["path"], rows[0]["start"], make(map[string]bool)
	for _, r := range rows {
		statuses += truth(r["grpc_status"].Kind != KindNull)
		duration, out = duration+r["duration"].Int, out+r["bytes_out"].Int
		durations = append(durations, r["duration"].Int)
		if r["path"].Text < path.Text {
			path = r["path"]
		}
		if r["start"].Int > last.Int {
			last = r["start"]
		}
		paths[r["path"].Text] = true
	}
	slices.Sort(durations)
	p90 := durations[max(int(math.Ceil(0.9*float64(len(durations))))-1, 0)]
	return []Value{
		number(int64(len(rows))), number(statuses), number(duration), path, last, {Kind: KindFloat, Float: float64(out) / float64(len(rows))},
		number(int64(len(paths))), number(p90),
	}
}

// TestConditionsPrune reads less where the scan knows the condition.
func TestConditionsPrune(t *testing.T) {
	segments := openTest(t, sealTest(t, 2, 12_000))
	all := mustRun(t, segments, "select count(*) from records").Scanned
	for _, where := range []string{
		"start >= timestamp '2027-01-01'", "start < now() - interval '2 minutes'", "start between '2020-01-01' and '2020-01-02'",
		"destination_canonical_service = 'none' and code = 200", "duration >= 60 * 1e9", "code > 599", "path like '/none%'",
		"starts_with(path, '/none')", "protocol = 'tcp'", "request_id = 'none'", "trace_id = '4bf92f35-77b3-4da6-a3ce-929d0e0e4736'",
	} {
		if n := mustRun(t, segments, "select count(*) from records where "+where).Scanned; n != 0 {
			t.Errorf("%s: %d of %d records were looked at", where, n, all)
		}
	}
	if n := mustRun(t, segments, "select count(*) from records where path like '%none%'").Scanned; n != all {
		t.Errorf("%d of %d records were looked at by a condition that is not handed on", n, all)
	}
}

// TestLookUpEqualsScan finds the same by the index as by looking at all.
func TestLookUpEqualsScan(t *testing.T) {
	segments := openTest(t, sealTest(t, 2, 12_000))
	for _, column := range []string{"trace_id", "request_id"} {
		id := mustRun(t, segments, "select max("+column+") from records").Rows[0][0].Text
		found := mustRun(t, segments, "select * from records where "+column+" = '"+id+"' order by start, span_id")
		scanned := mustRun(t, segments, "select * from records where "+column+" || '' = '"+id+"' order by start, span_id")
		if len(found.Rows) == 0 || fmt.Sprint(found.Rows) != fmt.Sprint(scanned.Rows) {
			t.Errorf("%s %s: found %d, scanned %d\n%v\n%v", column, id, len(found.Rows), len(scanned.Rows), found.Rows, scanned.Rows)
		}
		if found.Scanned >= scanned.Scanned {
			t.Errorf("%s: the look-up looked at %d records", column, found.Scanned)
		}
	}
}
