package process

import "time"

var start = time.Now()

// UntilBeat is the time until the process has run for a whole multiple of every.
// What an idle process does now and then it does at a beat: timers that end
// together wake it once.
func UntilBeat(every time.Duration) time.Duration {
	return every - time.Since(start)%every
}
