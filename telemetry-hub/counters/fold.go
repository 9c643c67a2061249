package counters

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

const (
	// maxEpochs of one sender are kept apart. A sender is one process at a time,
	// two while one hands over to the next, so more than two means that it
	// restarts over and over.
	maxEpochs = 4
	// maxFolded epochs are remembered by number: a batch of an epoch forgotten
	// beyond that would count again, a thousand restarts after it was sent.
	maxFolded = 1024
)

// base is the sum of a sender's folded epochs. Their batches are duplicates.
type base struct {
	stream
	epochs []uint64 // in the order in which they were folded
}

// folded reports whether the batch's epoch is part of its sender's base.
func (s *State) folded(b *telemetryv1.Batch) bool {
	known := s.bases[b.GetSender()]
	return known != nil && slices.Contains(known.epochs, b.GetEpoch())
}

// fold keeps the epochs of a sender bounded: those that were silent for longest
// go into its base. Not those with the lowest number: a clock may run backwards
// between two starts.
func (s *State) fold(sender string) {
	for {
		var oldest Stream
		epochs := 0
		for id := range s.streams {
			if id.Sender != sender {
				continue
			}
			epochs++
			if epochs == 1 || s.streams[id].used < s.streams[oldest].used {
				oldest = id
			}
		}
		if epochs <= maxEpochs {
			return
		}
		b := s.base(sender)
		b.add(s.streams[oldest])
		b.remember(oldest.Epoch)
		delete(s.streams, oldest)
	}
}

func (s *State) base(sender string) *base {
	b := s.bases[sender]
	if b == nil {
		b = &base{stream: *newStream()}
		s.bases[sender] = b
	}
	return b
}

func (b *base) remember(epoch uint64) {
	b.epochs = append(b.epochs, epoch)
	if len(b.epochs) > maxFolded {
		b.epochs = slices.Delete(b.epochs, 0, len(b.epochs)-maxFolded)
	}
}

// add sums a finished epoch up.
func (b *base) add(st *stream) {
	b.node, b.used = st.node, max(b.used, st.used)
	for key, r := range st.rows {
		known := b.rows[key]
		if known == nil {
			b.rows[key] = r
			continue
		}
		known.last = sum(known.last, r.last)
	}
	for k, n := range st.policy {
		b.policy[k] += n
	}
	for reason, n := range st.dropped {
		b.dropped[reason] += n
	}
}

// sum adds two rows of one series. Neither is changed.
func sum(old, a *telemetryv1.Aggregate) *telemetryv1.Aggregate {
	out := proto.CloneOf(keepExemplars(a, old))
	out.Requests += old.GetRequests()
	out.DurationSumNanos += old.GetDurationSumNanos()
	out.RequestBytesSum += old.GetRequestBytesSum()
	out.ResponseBytesSum += old.GetResponseBytesSum()
	out.DurationBucket = sumEach(out.GetDurationBucket(), old.GetDurationBucket())
	out.RequestBytesBucket = sumEach(out.GetRequestBytesBucket(), old.GetRequestBytesBucket())
	out.ResponseBytesBucket = sumEach(out.GetResponseBytesBucket(), old.GetResponseBytesBucket())
	counts := make(map[uint32]uint64)
	for _, r := range []*telemetryv1.Aggregate{old, a} {
		for i, index := range r.GetDurationIndex() {
			counts[index] += r.GetDurationCount()[i]
		}
	}
	out.DurationIndex, out.DurationCount = slices.Sorted(maps.Keys(counts)), nil
	for _, index := range out.GetDurationIndex() {
		out.DurationCount = append(out.DurationCount, counts[index])
	}
	return out
}

func sumEach(dst, src []uint64) []uint64 {
	for i, n := range src {
		if i == len(dst) {
			dst = append(dst, 0)
		}
		dst[i] += n
	}
	return dst
}

// export tells the folded epochs, the sums with the last of them.
func (b *base) export(sender string) []*telemetryv1.Batch {
	out := make([]*telemetryv1.Batch, len(b.epochs))
	for i, epoch := range b.epochs {
		out[i] = &telemetryv1.Batch{}
		if i == len(b.epochs)-1 {
			out[i] = b.stream.export()
		}
		out[i].Sender, out[i].Epoch, out[i].Sequence = sender, epoch, closed
	}
	return out
}

// restoreFolded takes a batch of base.export in. An epoch that is known as a
// stream of its own has been counted and stays as it is.
func (s *State) restoreFolded(b *telemetryv1.Batch) []Delta {
	if s.streams[Stream{b.GetSender(), b.GetEpoch()}] != nil {
		return nil
	}
	known := s.base(b.GetSender())
	known.remember(b.GetEpoch())
	return s.take(&known.stream, b)
}
