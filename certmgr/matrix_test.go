package certmgr_test

import "flag"

var everyRow = flag.Bool("certmgr.all", false, "run every row of the long tables, as CI does; otherwise a part of each")

// runsRow reports whether row i of a long table is run: one in n is, and each
// with -certmgr.all.
func runsRow(i, n int) bool { return *everyRow || i%n == 0 }
