package acmeclient

import (
	"encoding/json"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"
)

// maxPauseLink is the longest link to end a pause that is kept. Boulder's have
// some 850 bytes.
const maxPauseLink = 2048

// IsPause reports whether the CA has paused a name for the account: it accepts
// no order before somebody visits a page of the CA. There is no problem type for
// it. Boulder's is rateLimited (429), and its text has the link to that page.
func IsPause(p *acme.Error) bool {
	return p.StatusCode >= 400 && p.StatusCode < 500 && tellsOfPause(p.Detail)
}

func tellsOfPause(detail string) bool {
	detail = strings.ToLower(detail)
	if strings.Contains(detail, "temporarily prevented from requesting certificates") {
		return true
	}
	for word := range strings.FieldsSeq(detail) {
		switch trimWord(word) {
		case "unpause", "unpaused", "paused":
			return true
		}
		if strings.Contains(word, "://") && strings.Contains(word, "/unpause") {
			return true
		}
	}
	return false
}

// PauseLink returns the link to the page that ends a pause, or "".
func PauseLink(p *acme.Error) string {
	for word := range strings.FieldsSeq(p.Detail) {
		if i := strings.Index(word, "https://"); i >= 0 {
			if link := trimWord(word[i:]); len(link) <= maxPauseLink {
				return link
			}
		}
	}
	return ""
}

// trimWord returns a word without the punctuation around it.
func trimWord(word string) string { return strings.Trim(word, `.,;:!?"'<>()[]`) }

// isPaused reports whether a response is that for a paused name.
func isPaused(res *http.Response) bool {
	var problem struct{ Detail string }
	return json.Unmarshal(readAgain(res), &problem) == nil && tellsOfPause(problem.Detail)
}
