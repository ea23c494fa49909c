package acmetest

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	const s, d = time.Second, 10 * time.Second
	type step struct {
		at    time.Duration // since the beginning, by a clock that may be set back
		wait  time.Duration // for a token, before one is spent
		spend int
	}
	tests := []struct {
		name  string
		limit Limit
		steps []step
	}{
		{"off", Limit{}, []step{{0, 0, 1000}, {0, 0, 0}}},
		{"off, whatever the refill", Limit{Refill: d}, []step{{0, 0, 1000}, {0, 0, 0}}},
		{"burst, then one by one", Limit{3, d},
			[]step{{0, 0, 2}, {0, 0, 1}, {0, d, 0}, {9 * s, 1 * s, 0}, {10 * s, 0, 1}, {10 * s, d, 0}}},
		{"a spent token comes back on its own time", Limit{2, d},
			[]step{{0, 0, 1}, {9 * s, 0, 1}, {9 * s, 1 * s, 0}, {10 * s, 0, 1}, {10 * s, d, 0}}},
		{"fractions are not lost", Limit{1, d}, []step{{0, 0, 1}, {10 * s, 0, 1}, {25 * s, 0, 1}, {25 * s, d, 0}}},
		{"a full bucket saves nothing", Limit{1, d}, []step{{1000 * s, 0, 1}, {1000 * s, d, 0}, {1009 * s, s, 0}}},
		{"no more than the burst comes back", Limit{2, d}, []step{{0, 0, 2}, {1000 * s, 0, 2}, {1000 * s, d, 0}}},
		{"an empty bucket stays as it is", Limit{1, d}, []step{{0, 0, 1}, {1 * s, 9 * s, 5}, {10 * s, 0, 0}}},
		{"no refill", Limit{Burst: 2}, []step{{0, 0, 2}, {1e6 * s, never, 1}, {2e6 * s, never, 0}}},
		{"set back", Limit{1, d}, []step{{1000 * s, 0, 1}, {0, d, 0}, {4 * s, 6 * s, 0}, {10 * s, 0, 1}}},
		{"years", Limit{1152, 24 * time.Hour}, []step{{0, 0, 1152}, {24*time.Hour - s, s, 0}, {1152 * 24 * time.Hour, 0, 1152}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			var b bucket
			for i, step := range tt.steps {
				now := begin.Add(step.at)
				if got := b.wait(now, tt.limit); got != step.wait {
					t.Fatalf("step %d, at %v: wait %v, want %v", i, step.at, got, step.wait)
				}
				for range step.spend {
					b.spend(now, tt.limit)
				}
			}
		})
	}
}

// A refusal spends no tokens, and the longest wait is reported.
func TestBucketsAreTakenTogether(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	of := func(name string, refill time.Duration) charge {
		return charge{limit: Limit{1, refill}, key: bucketKey{name, "x"}}
	}
	free, short, long, ever := of("free", 1), of("short", time.Second), of("long", time.Hour), of("ever", 0)
	var bs buckets
	bs.spend(now, []charge{short, long, ever})
	for _, tt := range []struct {
		spent, checked []charge
		want           string
		wait           time.Duration
	}{
		{[]charge{free, short}, nil, "short", time.Second},
		{[]charge{free, short}, []charge{long}, "long", time.Hour},
		{[]charge{free, long}, []charge{short}, "long", time.Hour},
		{[]charge{free, long}, []charge{ever, short}, "ever", never},
		{[]charge{free, ever}, []charge{long}, "ever", never},
	} {
		refused, wait := bs.take(now, tt.spent, tt.checked)
		if refused == nil || refused.key.limit != tt.want || wait != tt.wait {
			t.Errorf("refused %v, wait %v; want %s, %v", refused, wait, tt.want, tt.wait)
		}
	}
	// None of these spent the token of free, nor does a check.
	for range 2 {
		if refused, _ := bs.take(now, nil, []charge{free}); refused != nil {
			t.Error("the free token is gone")
		}
	}
	if refused, _ := bs.take(now, []charge{free}, nil); refused != nil {
		t.Error("the free token was not to be had")
	}
	if refused, _ := bs.take(now, []charge{free}, nil); refused == nil {
		t.Error("the free token was not spent")
	}
	bs.reset(free)
	if refused, _ := bs.take(now, []charge{free}, nil); refused != nil {
		t.Error("the bucket was not reset")
	}
}
