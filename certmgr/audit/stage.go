package audit

// A Stage says how far an issuance has come. The set is closed and the strings
// are stable.
type Stage string

// The stages of an issuance, in order (RFC 8555, section 7.1).
const (
	StageQueue         Stage = "queue"         // waiting for an issuance slot (Manager.MaxIssuing)
	StageAccount       Stage = "account"       // directory, account key, registration
	StageKey           Stage = "key"           // the private key of Manager.KeySource
	StagePreflight     Stage = "preflight"     // does the name lead here? (Manager.Preflight)
	StageOrder         Stage = "order"         // newOrder
	StageAuthorization Stage = "authorization" // fetching authorizations
	StageChallenge     Stage = "challenge"     // the CA's validation of the host
	StageFinalize      Stage = "finalize"      // key, CSR, finalize, download, checks
	StageStore         Stage = "store"         // memory and Cache
)

// Stages returns every stage, in order.
func Stages() []Stage {
	return []Stage{StageQueue, StageAccount, StageKey, StagePreflight, StageOrder, StageAuthorization, StageChallenge, StageFinalize, StageStore}
}
