package pace

import "time"

// An outage of a CA is not the hosts' fault, and all of them wait for its end.
// So the waits are short at first. They grow with the age of the outage, since
// one that has lasted for long will probably last a while longer.
const (
	briefOutage = 2 * time.Minute  // until then, every few seconds
	shortOutage = 15 * time.Minute // until then, every minute or so
)

// ProbeEvery returns the wait between two probes of a CA that has been out of
// service for so long. A probe is a cheap request.
func ProbeEvery(outage time.Duration) time.Duration {
	switch {
	case outage < briefOutage:
		return 5 * time.Second
	case outage < shortOutage:
		return 30 * time.Second
	}
	return 5 * time.Minute
}

// ProbeWait is ProbeEvery with 30 percent of jitter, so that machines which
// lost the CA together do not ask together.
func ProbeWait(outage time.Duration) time.Duration { return within(ProbeEvery(outage), 30) }

// OutageWait returns the wait after consecutive orders that the CA failed, with
// Jitter, in an outage that has lasted for so long.
func OutageWait(failures int, outage time.Duration) time.Duration {
	d := 60 * time.Second
	switch {
	case outage >= shortOutage:
		d = 5 * time.Minute
	case failures <= 1:
		d = 5 * time.Second
	case failures == 2:
		d = 15 * time.Second
	case failures == 3:
		d = 45 * time.Second
	}
	return Jitter(d)
}

// RefusalWait returns the wait after the CA has refused the account so many
// times in a row, with Jitter. That is no outage, which would end by itself: it
// takes an operator, or the end of a rate limit.
func RefusalWait(failures int) time.Duration {
	d := 15 * time.Minute
	switch {
	case failures <= 1:
		d = time.Minute
	case failures <= 3:
		d = 5 * time.Minute
	}
	return Jitter(d)
}

// Next returns when something is tried again that took some time and failed now.
// The wait counts from the beginning: an attempt that took longer because
// nobody replied does not add to it. Nevertheless there is a pause of a tenth of
// the wait.
func Next(now time.Time, took, wait time.Duration) time.Time {
	return now.Add(max(wait-max(took, 0), wait/10))
}
