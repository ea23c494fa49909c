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
		u.keep(hostSubject(fmt.Sprintf("h%d.example.com", i), bundle.ECDSA, ""), &order.Unfinished{})
	}
	if n := u.orders.Len(); n != maxUnfinished {
		t.Errorf("%d are kept, want %d", n, maxUnfinished)
	}
}

func TestUnfinishedOrderIsForgotten(t *testing.T) {
	var u unfinishedOrders
	sub, kept := hostSubject("a.example.com", bundle.ECDSA, ""), &order.Unfinished{}
	u.keep(sub, kept)
	if got := u.get(sub); got != kept {
		t.Errorf("got %v", got)
	}
	u.keep(sub, nil)
	if got := u.get(sub); got != nil {
		t.Errorf("got %v after it was forgotten", got)
	}
}
