package conformance

import (
	"maps"
	"slices"
	"time"
)

const (
	profiles3 = "draft-ietf-acme-profiles, section 3"
	profiles4 = "draft-ietf-acme-profiles, section 4"
)

// profileCases are about profiles.
var profileCases = []testCase{
	success("the directory describes the profiles", profiles3, 200,
		func(c *Client) Answer {
			profiles, _ := c.meta()["profiles"].(map[string]any)
			want := slices.Sorted(maps.Keys(c.ca.Profiles))
			c.expect(slices.Equal(slices.Sorted(maps.Keys(profiles)), want), "the directory has %v and not %v", profiles, want)
			for name, description := range profiles {
				s, ok := description.(string)
				c.expect(ok && s != "", "the description of %s is %v", name, description)
			}
			return c.fetch(c.ca.Directory)
		}),
	success("an order can choose a profile, and says so from then on", profiles4, 200,
		func(c *Client) Answer {
			var last Answer
			for name, lifetime := range c.ca.Profiles {
				o := c.orderWith([]string{c.host("a")}, "profile", name)
				c.expect(o.Text("profile") == name, "the new order's profile is %q and not %s", o.Text("profile"), name)
				c.authorize(o)
				cert := c.complete(o, newKey(c.t))
				c.expect(cert.order.Text("profile") == name, "the order's profile is %q and not %s", cert.order.Text("profile"), name)
				leaf := cert.leaf()
				got := leaf.NotAfter.Add(time.Second).Sub(leaf.NotBefore) // both ends belong to it
				c.expect(got == lifetime, "certificates of profile %s live %v and not %v", name, got, lifetime)
				last = cert.order.Answer
			}
			return last
		}),
	success("an order that chooses no profile gets one", profiles4, 201,
		func(c *Client) Answer {
			a := c.newOrder([]string{c.host("a")})
			_, ok := c.ca.Profiles[a.Text("profile")]
			c.expect(ok, "the profile is %q", a.Text("profile"))
			return a
		}),
	refusal("an unknown profile is invalidProfile", profiles4, 400, "invalidProfile",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "profile", "unknown") }),
	refusal("a profile in another case is invalidProfile", profiles4, 400, "invalidProfile",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "profile", "DEFAULT") }),
	refusal("a profile that is a number is malformed", profiles4, 400, "malformed",
		func(c *Client) Answer { return c.newOrder([]string{c.host("a")}, "profile", 1) }),
}
