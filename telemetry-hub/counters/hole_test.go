package counters

import (
	"testing"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

func numbered(sequence uint64) *telemetryv1.Batch {
	return &telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: sequence}
}

// take judges and applies a batch as ingest does.
func judgeAndApply(s *State, sequence uint64) Verdict {
	v := s.Judge(numbered(sequence))
	s.Apply(numbered(sequence))
	return v
}

func TestAHoleIsAskedToBeFilled(t *testing.T) {
	s := New()
	if v := judgeAndApply(s, 1); v.Resync {
		t.Errorf("the first batch: %+v", v)
	}
	if v := judgeAndApply(s, 2); v.Resync || v.Missing != 0 {
		t.Errorf("the next batch: %+v", v)
	}
	if v := judgeAndApply(s, 5); !v.Resync || v.Missing != 2 {
		t.Errorf("a batch behind a hole of two: %+v", v)
	}
	judgeAndApply(s, 6) // asks once more, in case the first acknowledgement was lost
	if v := judgeAndApply(s, 7); v.Resync {
		t.Errorf("a hole that was asked for already: %+v", v)
	}
	if v := judgeAndApply(s, 6); !v.Duplicate {
		t.Errorf("a batch of before: %+v", v)
	}
}

func TestAHoleOfTheReplayedLogIsAskedToBeFilled(t *testing.T) {
	for name, replayed := range map[string][]uint64{"in the middle": {1, 2, 4}, "at the start": {3, 4}} {
		t.Run(name, func(t *testing.T) {
			s := New()
			for _, n := range replayed {
				s.Apply(numbered(n))
			}
			if v := judgeAndApply(s, 5); !v.Resync || v.Missing != 0 {
				t.Errorf("the first batch after the replay: %+v", v)
			}
		})
	}
}
