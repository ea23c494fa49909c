package certmgr

import (
	"fmt"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

func TestUnfinishedOrdersAreBounded(t *testing.T) {
	var u unfinishedOrders
	for i := range maxUnfinished + 10 {
		u.put(newSubject(bundle.ECDSA, "", fmt.Sprintf("h%d.example.com", i)), &keptOrder{order: new(order.Unfinished)})
	}
	if n := u.orders.Len(); n != maxUnfinished {
		t.Errorf("%d are kept, want %d", n, maxUnfinished)
	}
}

func TestUnfinishedOrderIsForgotten(t *testing.T) {
	var u unfinishedOrders
	sub, kept := newSubject(bundle.ECDSA, "", "a.example.com"), &keptOrder{order: new(order.Unfinished)}
	u.put(sub, kept)
	if got := u.get(sub); got != kept {
		t.Errorf("got %v", got)
	}
	u.put(sub, nil)
	if got := u.get(sub); got != nil {
		t.Errorf("got %v after it was forgotten", got)
	}
}
