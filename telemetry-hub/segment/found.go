package segment

import (
	"errors"
	"slices"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Found is one record with its edge and who reported it. Record.Edge is 0 and
// means nothing.
type Found struct {
	Record record.Record
	Edge   *telemetryv1.Edge
	Sender string
}

// setInt puts a value of a column of numbers into a record.
func setInt(r *record.Record, c Column, v int64) {
	switch c {
	case Start:
		r.Start = time.Unix(0, v)
	case Duration:
		r.Duration = time.Duration(v)
	case FirstByte:
		r.FirstByte = time.Duration(v)
	case Code:
		r.Code = uint32(v)
	case GRPCStatus:
		r.GRPCStatus = uint32(v)
	case BytesIn:
		r.BytesIn = uint64(v)
	case BytesOut:
		r.BytesOut = uint64(v)
	case Attempts:
		r.Attempts = uint32(v)
	case Sampled:
		r.Sampled = v != 0
	}
}

// setText puts a value of a text column into a record.
func setText(r *record.Record, c Column, s string) {
	switch c {
	case RequestID:
		r.RequestID = s
	case Protocol:
		r.Protocol = s
	case HTTPVersion:
		r.HTTPVersion = s
	case Method:
		r.Method = s
	case Path:
		r.Path = s
	case Host:
		r.Host = s
	case Route:
		r.Route = s
	case Flags:
		r.Flags = s
	case Detail:
		r.Detail = s
	case Upstream:
		r.Upstream = s
	case Verdict:
		r.Verdict = s
	case Rule:
		r.Rule = s
	case UserAgent:
		r.UserAgent = s
	}
}

// records builds some rows, which rise. A column that cannot be read is left
// empty in them and told.
func (d *groupData) records(rows []int32) ([]Found, error) {
	found := make([]Found, len(rows))
	origins := make([]origin, len(rows))
	var errs []error
	for c := range numColumns {
		if c == AttributeValues {
			continue // read with the keys
		}
		if err := d.fill(c, rows, found, origins); err != nil {
			errs = append(errs, err)
		}
	}
	for i := range found {
		found[i].Edge, found[i].Sender = origins[i].edge(), origins[i].at(Sender)
	}
	return found, errors.Join(errs...)
}

// fill reads one column into the records.
func (d *groupData) fill(c Column, rows []int32, found []Found, origins []origin) error {
	e, present, err := d.column(c)
	if !present {
		return err
	}
	ok := true
	switch specs[c].kind {
	case kindUUID:
		d.mem.codes, ok = e.pick(d.mem.codes, rows)
		for i, code := range d.mem.codes {
			found[i].Record.TraceID = [16]byte(e.dict[16*code:])
		}
	case kindID:
		for i, row := range rows {
			id := [8]byte(e.body[8*row:])
			if c == SpanID {
				found[i].Record.SpanID = id
			} else {
				found[i].Record.ParentSpanID = id
			}
		}
	case kindText:
		var list []string
		list, ok = e.pickTexts(d.mem, rows)
		for i, s := range list {
			if c >= firstOrigin && c <= lastOrigin {
				origins[i][c-firstOrigin] = s
			} else {
				setText(&found[i].Record, c, s)
			}
		}
	case kindMapKey:
		return d.fillAttributes(&e, rows, found)
	default:
		var list []int64
		list, ok = e.pickInts(d.mem, rows)
		for i, v := range list {
			setInt(&found[i].Record, c, v)
		}
	}
	if !ok {
		return d.corrupt(c)
	}
	return nil
}

func (d *groupData) fillAttributes(keyLeaf *encoded, rows []int32, found []Found) error {
	if keyLeaf.entries == 0 {
		return nil
	}
	valueLeaf, present, err := d.column(AttributeValues)
	if !present {
		return err
	}
	keys, starts, ok := keyLeaf.pickLists(d.mem, rows)
	if !ok {
		return d.corrupt(AttributeKeys)
	}
	values, ends, ok := valueLeaf.pickLists(d.mem, rows)
	if !ok || !slices.Equal(starts, ends) {
		return d.corrupt(AttributeValues)
	}
	for i := range rows {
		for at := starts[i]; at < starts[i+1]; at++ {
			if found[i].Record.Attributes == nil {
				found[i].Record.Attributes = make(map[string]string)
			}
			found[i].Record.Attributes[keys[at]] = values[at]
		}
	}
	return nil
}

// pickLists reads one leaf of a map column for some rows: the texts, and where
// those of each row begin among them; the last entry is the end.
func (e *encoded) pickLists(m *memory, rows []int32) (all []string, starts []int32, ok bool) {
	if m.codes, m.starts, ok = e.lists(m.codes, m.starts, m); !ok {
		return nil, nil, false
	}
	var picked []uint32
	for _, row := range rows {
		starts = append(starts, int32(len(picked)))
		picked = append(picked, m.codes[m.starts[row]:m.starts[row+1]]...)
	}
	all, ok = e.textsOf(m, picked)
	return all, append(starts, int32(len(picked))), ok
}
