package fleet

// stage is how far an issuance has come when its machine is held up.
type stage string

const (
	atAccount       stage = "newAccount"
	atOrder         stage = "newOrder"
	atOrderPlaced   stage = "newOrder, reply"
	atAuthorization stage = "authorization"
	atChallenge     stage = "challenge"
	atValidation    stage = "validation"
	atFinalize      stage = "finalize"
	atFinalized     stage = "finalize, reply"
	atCertificate   stage = "certificate"
	atStore         stage = "store"
)

// stages returns all of them but that of the account, which the hosts of a fleet
// have in common.
func stages() []stage {
	return []stage{
		atOrder, atOrderPlaced, atAuthorization, atChallenge, atValidation,
		atFinalize, atFinalized, atCertificate, atStore,
	}
}
