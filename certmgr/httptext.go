package certmgr

import "net/http"

// What an http-01 request without an answer is told. It may be anybody's, so that
// nothing of the inside is in it: not the error of a cache or a policy, nor the host.
const (
	textNotAllowed = "certmgr: host not allowed"
	textNoAnswer   = "certmgr: no such http-01 challenge"
	textNotNow     = "certmgr: http-01 challenges cannot be answered at the moment"
)

// toStrangers returns the text for a status.
func toStrangers(status int) string {
	switch status {
	case http.StatusForbidden:
		return textNotAllowed
	case http.StatusNotFound:
		return textNoAnswer
	}
	return textNotNow
}

// hintFor says what it may mean that a Manager gave a preflight such a text.
func hintFor(text string) string {
	if text == textNotAllowed {
		return " (is the Host changed on the way, by a proxy?)"
	}
	return ""
}
