package process

import (
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// UseBatchBuffers has gRPC use memory of sizes that suit what goes from sidecars
// to the hub: a batch of records has about 50 KiB, and gRPC's own pool has nothing
// between 32 KiB and 1 MiB, which it fills with zeros for each. It is for main, before
// anything uses gRPC.
func UseBatchBuffers() {
	pool, err := mem.NewBinaryTieredBufferPool(8, 12, 14, 15, 16, 17, 18, 20)
	if err != nil { // of constants: it cannot be
		return
	}
	experimental.SetDefaultBufferPool(pool)
}
