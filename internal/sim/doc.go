// Package sim contains only tests: a simulation of a Manager, the fake CA and a
// cache through ten years of outages, rate limits, stalls, moved names,
// restarts and wrong clocks, under constant traffic.
//
// Everything runs in the virtual time of a testing/synctest bubble. A seed
// determines all faults and their times, so a failing seed can be run again:
//
//	go test ./internal/sim -run TestTenYears -sim.seed 7 -sim.seeds 1 -v
package sim
