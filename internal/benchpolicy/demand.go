package main

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	// simulated is how long a run lasts, in virtual time.
	simulated = 120 * time.Second
	zipf      = 1.1
	// noiseEvery is how long one sidecar's demand stays at one deviation from
	// its share, and noiseSigma its log-normal width.
	noiseEvery = 100 * time.Millisecond
	noiseSigma = 0.6
)

// offered is the total demand as a part of the limit: below it, over it, just
// below it, far over it, below it.
func offered(t time.Duration) float64 {
	switch s := t / time.Second; {
	case s < 20:
		return 0.6
	case s < 60:
		return 1.5
	case s < 80:
		return 0.95
	case s < 100:
		return 3
	}
	return 0.8
}

// demand is who asks for how much: Zipf over the sidecars, in an order that
// changes every move, with noise, arriving as Poisson processes.
type demand struct {
	rand   *rand.Rand
	limit  float64 // requests per second
	move   time.Duration
	weight []float64
	order  []int
	noise  []float64

	real time.Duration // of at
}

func newDemand(seed uint64, sidecars int, limit float64, move time.Duration) *demand {
	d := &demand{rand: rand.New(rand.NewPCG(seed, 0)), limit: limit, move: move, noise: make([]float64, sidecars)}
	sum := 0.0
	for i := range sidecars {
		d.weight = append(d.weight, math.Pow(float64(i+1), -zipf))
		sum += d.weight[i]
	}
	for i := range d.weight {
		d.weight[i] /= sum
	}
	return d
}

// tick draws the arrivals of the step that begins at t, as calls of arrive.
func (d *demand) tick(t, step time.Duration, arrive func(at time.Duration, sidecar int)) {
	if t%d.move == 0 {
		d.order = d.rand.Perm(len(d.weight))
	}
	if t%noiseEvery == 0 {
		d.drawNoise()
	}
	base := offered(t) * d.limit * step.Seconds()
	for i := range d.noise {
		for range d.poisson(base * d.weight[d.order[i]] * d.noise[i]) {
			arrive(t+time.Duration(d.rand.Int64N(int64(step))), i)
		}
	}
}

// at draws the arrivals of a step of real time, in which the total is what it is
// at the demand's time t. Moves and noise come as often as in tick.
func (d *demand) at(t, step time.Duration, arrive func(sidecar int)) {
	if d.real%d.move == 0 {
		d.order = d.rand.Perm(len(d.weight))
	}
	if d.real%noiseEvery == 0 {
		d.drawNoise()
	}
	d.real += step
	base := offered(t) * d.limit * step.Seconds()
	for i := range d.noise {
		for range d.poisson(base * d.weight[d.order[i]] * d.noise[i]) {
			arrive(i)
		}
	}
}

func (d *demand) drawNoise() {
	for i := range d.noise {
		// Its mean is 1.
		d.noise[i] = math.Exp(noiseSigma*d.rand.NormFloat64() - noiseSigma*noiseSigma/2)
	}
}

// poisson draws with a small mean.
func (d *demand) poisson(mean float64) int {
	n, p := 0, d.rand.Float64()
	for least := math.Exp(-mean); p > least; p *= d.rand.Float64() {
		n++
	}
	return n
}
