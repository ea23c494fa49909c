package conformance

import "slices"

// table returns all cases.
func table() []testCase {
	return slices.Concat(
		requestCases, keyCases, nonceCases, resourceCases,
		accountCases, accountUpdateCases, keyChangeCases, bindingCases,
		orderCases, identifierCases, authorizationCases, challengeCases, validationCases,
		finalizeCases, certificateCases, revocationCases,
		renewalInfoCases, replacesCases, profileCases,
	)
}
