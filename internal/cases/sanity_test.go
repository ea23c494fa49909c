package cases

import "testing"

// The harness works: without a fault, one order results in a certificate.
func TestWithoutAFaultOneOrderIsEnough(t *testing.T) {
	table.Run(t, "B00", func(t *T) {
		bubble(t, func(t *T, w *world) {
			mustObtain(t, w, host)
			if n := w.newOrders(); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
			if _, err := w.get(host); err != nil {
				t.Errorf("a visitor gets %v", err)
			}
		})
	})
}
