package acmetest

import (
	"cmp"
	"slices"
	"time"
)

// Profile is a kind of certificate that an order may request by name
// (draft-ietf-acme-profiles). Zero fields mean the behaviour of a CA without
// profiles, except that IP addresses are refused.
type Profile struct {
	// Description is the text, or its URL, that the directory shows for the
	// profile.
	Description string
	// Lifetime is the time from NotBefore to NotAfter; zero means the server's
	// Lifetime.
	Lifetime time.Duration
	// AuthorizationLifetime is how long a valid authorization can be reused, by
	// orders of the same profile only; zero means 30 days.
	AuthorizationLifetime time.Duration
	// NoCommonName leaves the subject empty. Otherwise it is the first DNS name
	// that is short enough.
	NoCommonName bool
	// IPAddresses allows IP addresses. Without it, orders with one are refused.
	IPAddresses bool
	// MaxNames is how many names an order may have; zero means 100, which is
	// also the maximum.
	MaxNames int
}

// LetsEncryptProfiles returns the profiles of Let's Encrypt as they were in
// November 2026. Its default is "classic".
func LetsEncryptProfiles() map[string]Profile {
	return map[string]Profile{
		"classic": {
			Description:           "https://letsencrypt.org/docs/profiles#classic",
			Lifetime:              90 * 24 * time.Hour,
			AuthorizationLifetime: 30 * 24 * time.Hour,
			MaxNames:              100,
		},
		"tlsserver": {
			Description:           "https://letsencrypt.org/docs/profiles#tlsserver",
			Lifetime:              45 * 24 * time.Hour,
			AuthorizationLifetime: 7 * time.Hour,
			NoCommonName:          true,
			MaxNames:              25,
		},
		"shortlived": {
			Description:           "https://letsencrypt.org/docs/profiles#shortlived",
			Lifetime:              160 * time.Hour,
			AuthorizationLifetime: 7 * time.Hour,
			NoCommonName:          true,
			IPAddresses:           true,
			MaxNames:              25,
		},
	}
}

// checkProfiles panics if the profiles are inconsistent.
func (s *Server) checkProfiles() {
	if _, ok := s.Profiles[s.DefaultProfile]; !ok && s.DefaultProfile != "" {
		panic("acmetest: the default profile " + s.DefaultProfile + " is not in Profiles")
	}
}

// chooseProfile returns the name of an order's profile, given the one that the
// client requested, if any. Empty means none.
func (s *Server) chooseProfile(wanted string, hosts []string) (string, *Problem) {
	name := cmp.Or(wanted, s.DefaultProfile)
	if name == "" {
		return "", nil
	}
	p, ok := s.Profiles[name]
	if !ok {
		return "", problemf("invalidProfile", "there is no profile %q (the directory lists the profiles)", name)
	}
	if p.MaxNames != 0 && len(hosts) > p.MaxNames {
		return "", problemf("malformed", "the order has %d names, but profile %q allows %d", len(hosts), name, p.MaxNames)
	}
	if i := slices.IndexFunc(hosts, isIP); i >= 0 && !p.IPAddresses {
		return "", problemf("rejectedIdentifier", "%q is an IP address, which profile %q does not allow", hosts[i], name)
	}
	return name, nil
}

// lifetimeOf returns the lifetime of certificates with a profile, or without
// one if the name is empty.
func (s *Server) lifetimeOf(profile string) time.Duration {
	return cmp.Or(s.Profiles[profile].Lifetime, s.Lifetime, defaultLifetime)
}

// authorizationLifetimeOf returns how long a valid authorization of a profile
// can be reused.
func (s *Server) authorizationLifetimeOf(profile string) time.Duration {
	return cmp.Or(s.Profiles[profile].AuthorizationLifetime, validLifetime)
}

// profileDescriptions returns the directory's descriptions of the profiles.
func (s *Server) profileDescriptions() map[string]string {
	descriptions := make(map[string]string)
	for name, p := range s.Profiles {
		descriptions[name] = p.Description
	}
	return descriptions
}
