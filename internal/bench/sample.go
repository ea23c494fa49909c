package main

// sample is one value that a measurement found, or why it found none.
type sample struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	NA     string  `json:"na,omitempty"`
}

// missing returns the sample of a metric that could not be had.
func missing(metric, unit, why string) sample {
	return sample{Metric: metric, Unit: unit, NA: why}
}
