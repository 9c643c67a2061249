package ingest

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

// FuzzFrame weighs and decodes what may be no batch.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x0a\x01a\x10\x07\x18\x01\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("\x42\x05\x28\xb5\x2f\xfd\x00\x48\x02"))
	f.Add([]byte("\x32\x00\x32\x00\x3a\x02\x08\x01"))
	const parts = partBytes + partFactor*16 // of one byte, at the most
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := frame{mem.SliceBuffer(b)}
		weight := fr.weight()
		if weight < 2*int64(len(b)) || weight > int64(len(b)+1)*parts+2*(64<<20)+record.MaxRows*8*64 {
			t.Errorf("%d bytes weigh %d", len(b), weight)
		}
		batch, err := fr.decode()
		if err != nil {
			return
		}
		if n := int64(proto.Size(batch)); weight < n {
			t.Errorf("a batch of %d bytes weighs %d", n, weight)
		}
	})
}
