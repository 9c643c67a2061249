package store

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// recordsOf is what a segment needs of a batch. The records are a part of the
// bytes that were read.
type recordsOf struct {
	sender  string
	edges   []*telemetryv1.Edge
	records []byte
	count   int
}

// Numbers of a batch's fields, from api/telemetry/v1.
const (
	fieldSender      protowire.Number = 1
	fieldEdges       protowire.Number = 6
	fieldRecords     protowire.Number = 8
	fieldRecordCount protowire.Number = 9
)

var errNoBatch = errors.New("not a batch")

// readRecords reads what a segment needs of an encoded batch, and passes the rest
// by: its counters are most of the message's parts, and its records most of its
// bytes, which need no copy.
func readRecords(b []byte) (out recordsOf, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return out, errNoBatch
		}
		b = b[n:]
		switch {
		case number == fieldRecordCount && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return out, errNoBatch
			}
			out.count, b = int(uint32(v)), b[n:]
		case kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return out, errNoBatch
			}
			if err := out.take(number, v); err != nil {
				return out, err
			}
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(number, kind, b)
			if n < 0 {
				return out, errNoBatch
			}
			b = b[n:]
		}
	}
	return out, nil
}

func (r *recordsOf) take(number protowire.Number, v []byte) error {
	switch number {
	case fieldSender:
		r.sender = string(v)
	case fieldRecords:
		r.records = v
	case fieldEdges:
		e := &telemetryv1.Edge{}
		if err := proto.Unmarshal(v, e); err != nil {
			return err
		}
		r.edges = append(r.edges, e)
	}
	return nil
}
