package certmgr

import (
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

func TestUnfinishedOrdersAreBounded(t *testing.T) {
	var u unfinishedOrders
	for i := range maxUnfinished + 10 {
		u.put(hostSubject(fmt.Sprintf("h%d.example.com", i), bundle.ECDSA, ""), &order.Unfinished{})
	}
	if n := u.orders.Len(); n != maxUnfinished {
		t.Errorf("%d are kept, want %d", n, maxUnfinished)
	}
}

// An order is its account's: another one could not go on with it.
func TestUnfinishedOrderIsForItsAccount(t *testing.T) {
	var u unfinishedOrders
	sub, now := hostSubject("a.example.com", bundle.ECDSA, ""), time.Now()
	u.put(sub, &order.Unfinished{Account: "https://ca.example/ours", Since: now})
	if u.take(sub, "https://ca.example/other", now) != nil {
		t.Error("another account got the order")
	}
}
