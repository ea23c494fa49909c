package pace

import (
	"math"
	"testing"
	"time"
)

// takeAll takes tokens until there are none above keep, and returns how many.
func takeAll(b *Bucket, ran time.Duration, keep int) (n int) {
	for ; n < 1_000_000; n++ {
		if _, ok := b.Take(ran, keep); !ok {
			return n
		}
	}
	return n
}

func TestBucketRefillsEvenly(t *testing.T) {
	b := NewBucket(AccountOrders, AccountWindow)
	const ran = time.Hour
	if n := takeAll(&b, ran, 0); n != AccountOrders || b.Left(ran) != 0 {
		t.Errorf("%d at once, then %d left", n, b.Left(ran))
	}
	if next, ok := b.Take(ran, 0); ok || next-ran != 36*time.Second {
		t.Errorf("next in %v, %v", next-ran, ok)
	}
	for _, tt := range []struct {
		after time.Duration
		left  int
	}{{36*time.Second - 1, 0}, {36 * time.Second, 1}, {time.Hour, 100}, {AccountWindow - 1, 299}, {AccountWindow, 300}, {1000 * time.Hour, 300}} {
		if left := b.Left(ran + tt.after); left != tt.left {
			t.Errorf("%d left after %v, want %d", left, tt.after, tt.left)
		}
	}
}

// Those who must leave tokens to others get none while only those are left.
func TestBucketKeepsShares(t *testing.T) {
	const ran = time.Hour
	b := NewBucket(300, 3*time.Hour)
	for _, tt := range []struct{ keep, want int }{{150, 150}, {150, 0}, {50, 100}, {150, 0}, {0, 50}, {0, 0}, {300, 0}} {
		if n := takeAll(&b, ran, tt.keep); n != tt.want {
			t.Errorf("%d that leave %d, want %d", n, tt.keep, tt.want)
		}
	}
	for keep, want := range map[int]time.Duration{0: 36 * time.Second, 50: 51 * 36 * time.Second, 150: 151 * 36 * time.Second} {
		if next := b.Next(ran, keep); next-ran != want {
			t.Errorf("one that leaves %d comes in %v, want %v", keep, next-ran, want)
		}
		if _, ok := b.Take(ran+want-1, keep); ok {
			t.Errorf("one that leaves %d came before that", keep)
		}
	}
	if b.Next(ran+200*time.Hour, 0) != ran+200*time.Hour {
		t.Error("none is there after a long time")
	}
}

// A full bucket cannot get more, an empty one not owe any.
func TestBucketNeitherOverflowsNorOwes(t *testing.T) {
	b := NewBucket(3, time.Minute)
	b.GiveBack(0)
	if n := takeAll(&b, 0, 0); n != 3 {
		t.Errorf("%d, want 3", n)
	}
	for range 100 {
		b.Spend(0)
	}
	if b.Left(0) != 0 || b.Left(20*time.Second) != 1 {
		t.Errorf("%d left, then %d", b.Left(0), b.Left(20*time.Second))
	}
	b.GiveBack(0)
	if n := takeAll(&b, 0, 0); n != 1 {
		t.Errorf("%d after one was given back", n)
	}
}

func TestBucketIsRestored(t *testing.T) {
	const ran = 10 * time.Second
	for _, tt := range []struct {
		name  string
		used  float64
		ago   time.Duration
		since int
		left  int
	}{
		{"at once", 30, 0, 0, 270},
		{"later", 30, 360 * time.Second, 0, 280},
		{"long ago", 300, 1000 * time.Hour, 0, 300},
		{"by a clock that is ahead", 30, -1000 * time.Hour, 0, 270},
		{"and more were taken", 30, 36 * time.Second, 5, 266},
		{"more than there are", 299, 0, 100, 0},
		{"damaged", 1e300, 0, 0, 0},
		{"infinite", math.Inf(1), 0, 0, 0},
		{"negative", -5, 0, 0, 300},
	} {
		b := NewBucket(300, 3*time.Hour)
		b.SetUsed(ran, tt.used, tt.ago, tt.since)
		if left := b.Left(ran); left != tt.left {
			t.Errorf("%s: %d left, want %d", tt.name, left, tt.left)
		}
	}
	b := NewBucket(300, 3*time.Hour)
	b.Take(ran, 0)
	b.Take(ran, 0)
	if got := b.Used(ran + 18*time.Second); got != 1.5 {
		t.Errorf("%v used, want 1.5", got)
	}
}

func TestBucketOfAnySize(t *testing.T) {
	for _, size := range []int{1, 2, 7, 299, 100_000, math.MaxInt32} {
		b := NewBucket(size, AccountWindow)
		if b.Left(0) != size {
			t.Errorf("size %d: %d left", size, b.Left(0))
		}
		if _, ok := b.Take(0, size/2); !ok || b.Left(0) != size-1 {
			t.Errorf("size %d: %v, %d left", size, ok, b.Left(0))
		}
	}
}
