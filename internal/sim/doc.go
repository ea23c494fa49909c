// Package sim holds nothing but tests: a simulation in which a Manager, the
// fake CA and a cache live through ten years of outages, rate limits, stalls,
// moved names, restarts and wrong clocks, while visitors arrive all the time.
//
// Everything happens in the virtual time of a testing/synctest bubble. What
// goes wrong, and when, follows from a seed, so that a seed that fails shows
// the same faults at the same moments when it is run again:
//
//	go test ./internal/sim -run TestTenYears -sim.seed 7 -sim.seeds 1 -v
package sim
