package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width is a 32nd of their power of
// two. Its size is constant: a slice of millions of durations would grow the
// heap and so change the result. The zero value is empty.
type histogram struct {
	counts [64 << subBits]int64
	n, sum int64
}

const subBits = 5

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.sum += int64(d)
}

// bucket returns the bucket of a duration: its leading one and the subBits
// after it.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-1-subBits, 0)
	return shift<<subBits + int(v>>shift)
}

// least returns the shortest duration of a bucket.
func least(bucket int) time.Duration {
	shift := max(bucket>>subBits-1, 0)
	return time.Duration(bucket-shift<<subBits) << shift
}

// mean returns the mean in nanoseconds.
func (h *histogram) mean() float64 { return float64(h.sum) / float64(h.n) }

// percentile returns the p-th percentile in nanoseconds, to a 32nd.
func (h *histogram) percentile(p int64) float64 {
	rank := (h.n - 1) * p / 100
	for i, count := range h.counts {
		if rank -= count; rank < 0 {
			return float64(least(i))
		}
	}
	return 0
}
