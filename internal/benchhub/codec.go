package main

import (
	"errors"
	"runtime"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/recordgen"
)

const (
	codecRounds  = 5
	codecBatches = 300 // of a round
)

// encoded is a batch's records on the wire.
type encoded struct {
	payload []byte
	rows    int
}

// codec measures what the sidecar does to send a record, and the hub to read it.
func codec(r *figures.Report) error {
	e, err := record.NewEncoder()
	if err != nil {
		return err
	}
	d, err := record.NewDecoder()
	if err != nil {
		return err
	}
	defer d.Close()
	var encode, decode, wire []float64
	for range codecRounds {
		batches, err := oneSendersBatches(e, d)
		if err != nil {
			return err
		}
		list, took := encodeBatches(e, batches)
		rows, size := 0, 0
		for _, b := range list {
			rows, size = rows+b.rows, size+len(b.payload)
		}
		encode, wire = append(encode, micros(took, rows)), append(wire, float64(size)/float64(rows))
		// A hub does not have the records in this form, to be looked through at
		// each collection.
		clear(batches)
		runtime.GC()
		if took, err = decodeBatches(d, list); err != nil {
			return err
		}
		decode = append(decode, micros(took, rows))
	}
	r.Set("encode_us", encode...)
	r.Set("decode_us", decode...)
	r.Set("wire_bytes_per_record", wire...)
	return nil
}

// oneSendersBatches are records as a sidecar has them: those of one sender.
func oneSendersBatches(e *record.Encoder, d *record.Decoder) (batches [][]record.Record, err error) {
	m := recordgen.New(recordgen.Options{Seed: 7, Step: step})
	block := &m.Senders[1].Block
	for len(batches) < codecBatches {
		for block.Rows() < batchRecords {
			m.Request()
		}
		c, err := d.Decode(e.Append(nil, block), block.Rows())
		if err != nil {
			return nil, err
		}
		list := make([]record.Record, c.Rows())
		for i := range list {
			list[i] = c.Record(i)
		}
		batches = append(batches, list)
		for _, s := range m.Senders {
			s.Block.Reset()
		}
	}
	return batches, nil
}

// encodeBatches does what a sidecar does, from records to the wire. took is CPU.
func encodeBatches(e *record.Encoder, batches [][]record.Record) (list []encoded, took time.Duration) {
	list = make([]encoded, len(batches))
	var b record.Block
	from := selfCPU()
	for i, rows := range batches {
		for j := range rows {
			b.Add(&rows[j])
		}
		list[i] = encoded{e.Append(nil, &b), len(rows)}
		b.Reset()
	}
	return list, selfCPU() - from
}

// decodeBatches does what the hub does before it keeps a batch. took is CPU.
func decodeBatches(d *record.Decoder, list []encoded) (took time.Duration, err error) {
	from := selfCPU()
	for _, b := range list {
		c, err := d.Decode(b.payload, b.rows)
		if err != nil {
			return 0, err
		}
		for row := range c.Rows() { // as the ingest does
			if c.Edge(row) > 1<<20 {
				return 0, errors.New("an edge out of nowhere")
			}
		}
	}
	return selfCPU() - from, nil
}
