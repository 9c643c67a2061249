package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// traffic is the load: workers of each kind, each with one call at a time.
type traffic struct {
	mesh   *mesh
	ledger *ledger
	seed   uint64
	pace   time.Duration // mean pause of a worker between two calls
	round  int           // of run; in every ID, so that none comes twice
	conns  []*grpc.ClientConn
}

// worker makes calls of one kind; r is its own.
type worker struct {
	*traffic
	kind string
	n    int
	r    *rand.Rand
	http *caller
	cc   *grpc.ClientConn
}

// kinds of calls, and how many workers each has.
var kinds = []struct {
	name    string
	workers int
	make    func(*worker, *call)
}{
	{"http get", 6, (*worker).get},
	{"http get, new conn", 2, (*worker).get},
	{"http post", 4, (*worker).post},
	{"http post chunked", 4, (*worker).postChunked},
	{"http big", 1, (*worker).big},
	{"http slow", 4, (*worker).slow},
	{"http status", 1, (*worker).status},
	{"http leave", 1, (*worker).leave},
	{"grpc unary", 6, (*worker).rpc},
	{"grpc leave", 1, (*worker).rpc},
	{"grpc server stream", 2, (*worker).rpc},
	{"grpc client stream", 2, (*worker).rpc},
	{"grpc bidi stream", 2, (*worker).rpc},
	{"websocket", 3, (*worker).webSocket},
	{"tcp", 3, (*worker).tcp},
	{"connect", 2, (*worker).tcp},
}

// run drives all workers until ctx ends.
func (t *traffic) run(ctx context.Context) error {
	outbound := t.mesh.caller.address["outbound"]
	t.round++
	t.conns = nil
	for range 2 {
		cc, err := dialGRPC(outbound)
		if err != nil {
			return err
		}
		defer func() { _ = cc.Close() }() // its calls have ended
		t.conns = append(t.conns, cc)
	}
	var all sync.WaitGroup
	for k, kind := range kinds {
		for i := range kind.workers {
			w := &worker{traffic: t, kind: kind.name, r: rand.New(rand.NewPCG(t.seed, uint64(t.round<<16|k<<8|i))),
				http: &caller{address: outbound, once: kind.name == "http get, new conn"}, cc: t.conns[i%len(t.conns)]}
			all.Go(func() { w.run(ctx, k<<8|i, kind.make) })
		}
	}
	all.Wait()
	return nil
}

func (w *worker) run(ctx context.Context, number int, do func(*worker, *call)) {
	defer w.http.end()
	for ctx.Err() == nil {
		w.n++
		one := call{id: w.id(number), kind: w.kind, method: http.MethodGet, grpc: -1, began: time.Now()}
		do(w, &one)
		w.ledger.add(one)
		time.Sleep(time.Duration(w.r.Int64N(int64(2 * w.pace))))
	}
}

// id is a UUID for every second call: the mesh keeps those in fewer bytes.
func (w *worker) id(number int) string {
	if w.n%2 == 0 {
		return fmt.Sprintf("%08x-%04x-4000-8%03x-%012x", uint32(w.seed)|1, number, w.round, w.n)
	}
	return fmt.Sprintf("soak-%d-%d-%d-%d", w.seed, w.round, number, w.n)
}

func (w *worker) body(most int) []byte {
	return bytes.Repeat([]byte{byte('a' + w.n%26)}, 1+w.r.IntN(most))
}

func (w *worker) pause() time.Duration { return time.Duration(w.r.IntN(20)) * time.Millisecond }

func (w *worker) get(one *call) { w.http.do(one, "/echo", nil, false, patience) }

func (w *worker) post(one *call) {
	one.method = http.MethodPost
	w.http.do(one, "/echo", w.body(8000), false, patience)
}

func (w *worker) postChunked(one *call) {
	one.method = http.MethodPost
	w.http.do(one, "/chunked", w.body(60000), true, patience)
}

// big has more on its way than all buffers together hold.
func (w *worker) big(one *call) {
	one.method = http.MethodPost
	w.http.do(one, "/chunked", w.body(4<<20), w.n%3 == 0, patience)
}

func (w *worker) slow(one *call) {
	w.http.do(one, fmt.Sprintf("/slow/%d", w.r.IntN(400)), nil, false, patience)
}

func (w *worker) status(one *call) {
	w.http.do(one, fmt.Sprintf("/status/%d", []int{204, 404, 500, 501}[w.n%4]), nil, false, patience)
}

// leave gives up, often before the answer.
func (w *worker) leave(one *call) {
	one.left = true
	w.http.do(one, "/slow/150", nil, false, time.Duration(100+w.r.IntN(100))*time.Millisecond)
}

func (w *worker) rpc(one *call) {
	one.method = http.MethodPost
	limit := patience
	if one.kind == "grpc leave" {
		one.left = true
		limit = time.Duration(1+w.r.IntN(8)) * time.Millisecond
	}
	callGRPC(w.cc, one, 1+w.r.IntN(20), 1+w.r.IntN(20000), w.pause(), limit)
}

func (w *worker) webSocket(one *call) {
	one.finish(webSocket(w.http.address, one, 1+w.r.IntN(20), w.pause()))
}

func (w *worker) tcp(one *call) {
	if one.kind == "connect" {
		one.method = http.MethodConnect
		one.finish(opaque(w.http.address, one, true, w.pause()))
		return
	}
	one.method = ""
	one.finish(opaque(w.mesh.caller.address["opaque"], one, false, w.pause()))
}

func (c *call) finish(err error) {
	if c.ok = err == nil; err != nil {
		c.err = err.Error()
	}
}
