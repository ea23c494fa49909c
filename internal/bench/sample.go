package main

// sample is one measured value, or the reason why there is none.
type sample struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	NA     string  `json:"na,omitempty"`
}

// missing returns the sample of a metric without a value.
func missing(metric, unit, why string) sample {
	return sample{Metric: metric, Unit: unit, NA: why}
}
