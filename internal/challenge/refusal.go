package challenge

import "net/http"

// The responses to http-01 requests that have no answer. Anybody may send such
// a request, so they reveal nothing internal: no error of a cache or policy, no
// host.
const (
	TextNotAllowed = "certmgr: host not allowed"
	TextNoHost     = "certmgr: the request has no Host header"

	textNoAnswer = "certmgr: no such http-01 challenge"
	textNotNow   = "certmgr: http-01 challenges cannot be answered at the moment"
)

// RefusalText returns the response body for a status.
func RefusalText(status int) string {
	switch status {
	case http.StatusForbidden:
		return TextNotAllowed
	case http.StatusNotFound:
		return textNoAnswer
	}
	return textNotNow
}
