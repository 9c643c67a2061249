package ingest

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that ours wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Codec is what a gRPC server that a Server is registered on must have: protobuf's,
// but for batches, which are received as they came and decoded once they are
// admitted.
func Codec() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")})
}

type codec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.buffer = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// frame is a batch as it came. Its memory is gRPC's and is given back with free.
type frame struct{ buffer mem.Buffer }

func (f *frame) free() {
	f.buffer.Free()
	f.buffer = nil
}

// decode is to be called once admitted.
func (f *frame) decode() (*telemetryv1.Batch, error) {
	b := &telemetryv1.Batch{}
	return b, proto.Unmarshal(f.buffer.ReadOnlyData(), b)
}

// What a part of a batch takes once it is decoded: a Go struct whatever it holds, and
// eight bytes for a number that had one on the wire.
const (
	partBytes   = 512
	partFactor  = 8
	fieldRecord = protowire.Number(8)
	fieldCount  = protowire.Number(9)
)

// weight is about how many bytes the batch takes while it is under way, as it came
// and decoded, found without decoding it. Of what is no batch it is the length.
func (f *frame) weight() int64 {
	b := f.buffer.ReadOnlyData()
	total := int64(2 * len(b))
	var records []byte
	rows := 0
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		m := protowire.ConsumeFieldValue(number, kind, b[n:])
		if m < 0 {
			break
		}
		value := b[n : n+m]
		b = b[n+m:]
		switch {
		case number == fieldRecord && kind == protowire.BytesType:
			records, _ = protowire.ConsumeBytes(value)
		case number == fieldCount && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			rows = int(min(v, record.MaxRows))
		case kind == protowire.BytesType:
			total += partBytes + partFactor*int64(m)
		}
	}
	return total + record.Footprint(records, rows)
}
