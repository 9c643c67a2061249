package http2

import (
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// Budgets against peers that make us work for nothing. Each refills with time,
// and with work that counts.
const (
	// resetBudget is how many streams a downstream may reset before their
	// answers, beyond those that complete ("rapid reset", CVE-2023-44487).
	resetBudget    = 400
	resetPerSecond = 50
	// controlBudget is how many frames that carry nothing (PING, SETTINGS,
	// PRIORITY, empty DATA, frames of closed streams) a peer may send beyond
	// those that carry something.
	controlBudget    = 10_000
	controlPerSecond = 500
	// maxContinuations of one header block; its bytes are bounded as well.
	maxContinuations = 128
)

// guard belongs to the goroutine that reads its connection.
type guard struct {
	resets, controls budget
}

func newGuard() guard {
	now := netio.Now()
	return guard{budget{resetBudget, resetBudget, resetPerSecond, now}, budget{controlBudget, controlBudget, controlPerSecond, now}}
}

// budget is a bucket of tokens.
type budget struct {
	left, limit, perSecond int
	filled                 int64 // when, in nanoseconds of netio.Now
}

// take spends one token; it looks at the clock only when none is left.
func (b *budget) take() bool {
	if b.left == 0 {
		now := netio.Now()
		b.left = int(min(int64(b.limit), (now-b.filled)*int64(b.perSecond)/int64(time.Second)))
		if b.left == 0 {
			return false
		}
		b.filled = now
	}
	b.left--
	return true
}

func (b *budget) earn() {
	if b.left < b.limit {
		b.left++
	}
}

// control spends for a frame that carries nothing.
func (g *guard) control() error {
	if !g.controls.take() {
		return &connError{errEnhanceYourCalm, "control_flood"}
	}
	return nil
}

// reset spends for a stream that its downstream gave up before its answer.
func (g *guard) reset() error {
	if !g.resets.take() {
		return &connError{errEnhanceYourCalm, "rapid_reset"}
	}
	return nil
}
