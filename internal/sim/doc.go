// Package sim contains only tests: simulations of a Manager, the fake CA and a
// cache.
//
// TestTenYears takes some hosts through ten years of outages, rate limits,
// stalls, moved names, restarts, kills and wrong clocks, with a CA that has the
// habits of real ones, under constant traffic. Some hosts have certificates of the
// operator's own, which are replaced in time, too late, or badly.
// TestTenYearsOfAFleet does that with three machines on one store with locks. Their
// clocks differ, they are killed, stopped and cut off from the store at any step of
// an issuance, and new hosts are visited on all of them at once.
// TestNewHosts lets one new host after another get its first certificate while
// something goes wrong, and measures how long that takes.
//
// Everything runs in the virtual time of a testing/synctest bubble. A seed
// determines all faults and their times, so a failing seed can be run again:
//
//	go test ./internal/sim -run TestTenYears -sim.seed 7 -sim.seeds 1 -sim.years 10 -v
//
// TestBugsAreFound plants mistakes in the code, which the simulations must find.
package sim
