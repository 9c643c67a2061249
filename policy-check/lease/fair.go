package lease

import (
	"math"
	"slices"
)

// fairLevel is the max-min water level: the share above which nobody's demand
// may be served while another's is not. It is infinite when capacity suffices
// for all. It sorts demands in place.
func fairLevel(demands []float64, capacity float64) float64 {
	slices.Sort(demands)
	left := capacity
	for i, d := range demands {
		share := left / float64(len(demands)-i)
		if d > share {
			return share
		}
		left -= d
	}
	return math.Inf(1)
}
