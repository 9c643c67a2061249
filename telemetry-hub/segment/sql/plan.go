package sql

import (
	"slices"
	"strings"
	"time"
)

// plan is a query bound to the columns of the table.
type plan struct {
	query   *Query
	binder  *binder
	table   *table
	known   map[string]field
	names   []string // of the fields
	m       *budget
	prune   pruning
	where   []node
	grouped bool
	keyText []string // canonical, of the groups' keys
	groups  groups
	aggs    []*aggregate
	having  node
	outputs []node
	orders  []node
	naming  map[string]bool // aliases that are being bound, so that none is of itself
}

func newPlan(q *Query, now time.Time, memory int64) (*plan, error) {
	p := &plan{query: q, table: &table{}, m: &budget{limit: memory}, naming: make(map[string]bool)}
	p.known, p.names = fields()
	p.binder = &binder{text: q.Text, now: now, resolve: p.resolveRow}
	p.prune.b = p.binder
	if q.Star {
		for _, name := range p.names {
			q.Select = append(q.Select, Item{Expr: &Ref{Name: name}, Name: name})
		}
		q.Star = false
	}
	if err := p.bindWhere(); err != nil {
		return nil, err
	}
	if err := p.bindGroups(); err != nil {
		return nil, err
	}
	return p, p.bindOutputs()
}

// bindWhere hands on what it can of the conditions, and binds the others.
func (p *plan) bindWhere() error {
	all := conjuncts(p.query.Where)
	for _, e := range all { // also those that are handed on: they may be wrong
		if _, err := p.binder.bindAs(e, KindBool); err != nil {
			return err
		}
	}
	p.table.fields = nil // columns that only the scan looks at are its own matter
	var rest []Expr
	for _, e := range all {
		if !p.prune.hand(e) {
			rest = append(rest, e)
		}
	}
	if p.prune.find != "" { // what is looked up by ID is not scanned
		rest = all
	}
	for _, e := range rest {
		n, err := p.binder.bindAs(e, KindBool)
		if err != nil {
			return err
		}
		p.where = append(p.where, n)
	}
	return nil
}

// item is the expression of an alias, nil if there is none.
func (p *plan) item(name string) Expr {
	for _, i := range p.query.Select {
		if i.as && strings.EqualFold(i.Name, name) {
			return i.Expr
		}
	}
	return nil
}

// resolveRow binds names to columns of a record.
func (p *plan) resolveRow(e Expr) (node, error) {
	switch e := e.(type) {
	case *Ref:
		if f, ok := p.known[e.Name]; ok {
			return p.use(f), nil
		}
		return p.alias(e, p.binder)
	case *Attribute:
		f := p.known[mapColumn]
		f.name, f.kind, f.key = e.String(), KindText, e.Key
		return p.use(f), nil
	case *Call:
		if isAggregate(e.Name) {
			return nil, p.binder.errorf(e, "%s is an aggregate, which WHERE and GROUP BY cannot have: use HAVING", e.Name)
		}
	}
	return nil, nil
}

func (p *plan) alias(e *Ref, b *binder) (node, error) {
	name := strings.ToLower(e.Name)
	x := p.item(e.Name)
	if x == nil || p.naming[name] {
		return nil, p.unknown(e)
	}
	p.naming[name] = true
	defer delete(p.naming, name)
	return b.bind(x)
}

func (p *plan) use(f field) node {
	for i, have := range p.table.fields {
		if have.name == f.name {
			return &slot{i, f.kind}
		}
	}
	p.table.fields = append(p.table.fields, f)
	return &slot{len(p.table.fields) - 1, f.kind}
}

// unknown says which column may have been meant.
func (p *plan) unknown(e *Ref) error {
	var near []string
	for _, n := range p.names {
		if strings.Contains(n, strings.ToLower(e.Name)) || strings.HasSuffix(e.Name, n) {
			near = append(near, n)
		}
	}
	if len(near) == 0 {
		return p.binder.errorf(e, "there is no column %s; columns are %s", clip(e.Name), strings.Join(p.names, ", "))
	}
	return p.binder.errorf(e, "there is no column %s; did you mean %s? (a text is in single quotes)", clip(e.Name), strings.Join(near, " or "))
}

// bindGroups finds out by what the query groups.
func (p *plan) bindGroups() error {
	q := p.query
	keys := slices.Clone(q.GroupBy)
	if q.All {
		for _, i := range q.Select {
			if !aggregates(i.Expr) {
				keys = append(keys, i.Expr)
			}
		}
	}
	p.grouped = len(q.GroupBy) > 0 || q.All || q.Having != nil
	for _, i := range q.Select {
		p.grouped = p.grouped || aggregates(i.Expr)
	}
	for _, o := range q.OrderBy {
		p.grouped = p.grouped || aggregates(o.Expr)
	}
	for _, e := range keys {
		e, err := p.position(e, "GROUP BY")
		if err != nil {
			return err
		}
		if ref, ok := e.(*Ref); ok && p.known[ref.Name].name == "" && p.item(ref.Name) != nil {
			e = p.item(ref.Name)
		}
		n, err := p.binder.bind(e)
		if err != nil {
			return err
		}
		p.groups.keys, p.keyText = append(p.groups.keys, n), append(p.keyText, e.String())
	}
	p.groups.m = p.m
	return nil
}

// position gives the item that a number stands for.
func (p *plan) position(e Expr, of string) (Expr, error) {
	l, ok := e.(*Literal)
	if !ok || l.Value.Kind != KindInt {
		return e, nil
	}
	if n := l.Value.Int; n < 1 || n > int64(len(p.query.Select)) {
		return nil, p.binder.errorf(e, "%s %d: SELECT has %d columns", of, n, len(p.query.Select))
	}
	return p.query.Select[l.Value.Int-1].Expr, nil
}

// bindOutputs binds what is computed of records, or of groups.
func (p *plan) bindOutputs() error {
	b := p.binder
	if p.grouped {
		b = &binder{text: b.text, now: b.now}
		b.resolve = func(e Expr) (node, error) { return p.resolveGroup(e, b) }
	}
	for _, i := range p.query.Select {
		n, err := b.bind(i.Expr)
		if err != nil {
			return err
		}
		p.outputs = append(p.outputs, n)
	}
	if p.query.Having != nil {
		var err error
		if p.having, err = b.bindAs(p.query.Having, KindBool); err != nil {
			return err
		}
	}
	for _, o := range p.query.OrderBy {
		e, err := p.position(o.Expr, "ORDER BY")
		if err != nil {
			return err
		}
		if ref, ok := e.(*Ref); ok && p.item(ref.Name) != nil {
			e = p.item(ref.Name)
		}
		n, err := b.bind(e)
		if err != nil {
			return err
		}
		p.orders = append(p.orders, n)
	}
	p.groups.perRow = len(p.aggs) * 16
	return nil
}

// resolveGroup binds to keys and aggregates of groups.
func (p *plan) resolveGroup(e Expr, b *binder) (node, error) {
	if i := slices.Index(p.keyText, e.String()); i >= 0 {
		return &slot{i, p.groups.keys[i].kind()}, nil
	}
	switch e := e.(type) {
	case *Call:
		if isAggregate(e.Name) {
			return p.aggregate(e)
		}
	case *Attribute:
		return nil, p.notGrouped(e)
	case *Ref:
		if p.known[e.Name].name != "" {
			return nil, p.notGrouped(e)
		}
		return p.alias(e, b)
	}
	return nil, nil
}

func (p *plan) notGrouped(e Expr) error {
	return p.binder.errorf(e, "%s is neither in GROUP BY nor in an aggregate: add it to GROUP BY, or take min(%s)", clip(e.String()), clip(e.String()))
}

func (p *plan) aggregate(c *Call) (node, error) {
	text := c.String()
	for i, a := range p.aggs {
		if a.text == text {
			return &slot{len(p.keyText) + i, a.acc.kind()}, nil
		}
	}
	a, err := newAggregate(p.binder, c, p.m)
	if err != nil {
		return nil, err
	}
	p.aggs = append(p.aggs, a)
	return &slot{len(p.keyText) + len(p.aggs) - 1, a.acc.kind()}, nil
}
