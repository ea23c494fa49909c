package servertest

import "testing"

// What was written before a kill is there after a restart.
func TestRedisKeepsItsData(t *testing.T) {
	r := StartRedis(t)
	if got := r.CLI("SET", "key", "value"); got != "OK" {
		t.Fatalf("SET: %s", got)
	}
	for _, end := range []func(){r.Stop, r.Kill} {
		end()
		r.Restart()
		if got := r.CLI("GET", "key"); got != "value" {
			t.Errorf("after a restart GET returns %q", got)
		}
	}
}

// The replica has the primary's data after a failover.
func TestRedisSentinelFailsOver(t *testing.T) {
	s := StartRedisSentinel(t)
	if got := s.Primary.CLI("SET", "key", "value"); got != "OK" {
		t.Fatalf("SET: %s", got)
	}
	s.Primary.Await("1", "WAIT", "1", "0")
	s.Primary.Kill()
	s.Failover()
	if got := s.Primary.CLI("SET", "other", "value"); got != "OK" {
		t.Errorf("SET at the new primary: %s", got)
	}
	if got := s.Primary.CLI("GET", "key"); got != "value" {
		t.Errorf("GET at the new primary returns %q", got)
	}
}

// Each node of the cluster knows where a key is.
func TestRedisClusterServes(t *testing.T) {
	for _, r := range StartRedisCluster(t) {
		if got := r.CLI("-c", "SET", "key", "value"); got != "OK" {
			t.Errorf("SET: %s", got)
		}
	}
}
