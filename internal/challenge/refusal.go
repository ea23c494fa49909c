package challenge

import "net/http"

// What an http-01 request without an answer is told. It may be anybody's, so that
// nothing of the inside is in it: not the error of a cache or a policy, nor the host.
const (
	TextNotAllowed = "certmgr: host not allowed"

	textNoAnswer = "certmgr: no such http-01 challenge"
	textNotNow   = "certmgr: http-01 challenges cannot be answered at the moment"
)

// RefusalText returns the text for a status.
func RefusalText(status int) string {
	switch status {
	case http.StatusForbidden:
		return TextNotAllowed
	case http.StatusNotFound:
		return textNoAnswer
	}
	return textNotNow
}
