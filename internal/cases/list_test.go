package cases

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// B28: lists of hosts as people write them. Windows PowerShell writes UTF-16
// (openwall/john#2802, anthony-chaudhary/dos-kernel#148). A list with an
// invalid line is refused as a whole, with a one-line reason.
func TestAnAllowlistFileIsReadOrRefused(t *testing.T) {
	utf16 := func(text string) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			b.Write([]byte{c, 0})
		}
		return b.String()
	}
	const two = "example.com www.example.com"
	for name, tt := range map[string]struct {
		text  string
		names string // on the list; empty if it is refused
		want  string // in the error
	}{
		"UTF-8 mark and CRLF": {text: "\xef\xbb\xbfexample.com\r\nwww.example.com\r\n", names: two},
		"UTF-16 with a mark":  {text: "\xff\xfe" + utf16("example.com\r\nwww.example.com\r\n"), want: "UTF-16"},
		"UTF-16":              {text: utf16("example.com\r\n"), want: "UTF-16"},
		"duplicates":          {text: "Example.COM.\nexample.com\nEXAMPLE.com\n", names: "example.com"},
		"no line feed":        {text: "example.com", names: "example.com"},
		"comments":            {text: "example.com # ours\n#www\n\n   \n\twww.example.com\t\n", names: two},
		"zero-width space":    {text: "example.com\u200b\n", names: "example.com"},
		"Unicode": {text: "bücher.example.com\nBÜCHER.example.com\nbu\u0308cher.example.com\nxn--bcher-kva.example.com\n",
			names: "xn--bcher-kva.example.com"},
		"emoji":            {text: "💩.example.com\n", names: "xn--ls8h.example.com"},
		"no-break space":   {text: "example.com\u00a0\nwww.example.com\n"},
		"commas":           {text: "example.com, www.example.com\n"},
		"comma at the end": {text: "example.com,\nwww.example.com,\n"},
		"quotes":           {text: "\"example.com\"\n"},
		"hosts file":       {text: "192.0.2.1 example.com www.example.com\n"},
		"URL":              {text: "https://example.com/\n", want: "scheme"},
		"port":             {text: "example.com:443\n", want: "port"},
		"semicolon":        {text: "; our hosts\nexample.com\n"},
		"slashes":          {text: "// our hosts\nexample.com\n"},
		"CR alone":         {text: "example.com\rwww.example.com\r"},
		"dot before":       {text: ".example.com\n"},
		"two wildcards":    {text: "*.*.example.com\n", want: "wildcard"},
		"wildcard inside":  {text: "www.*.example.com\n", want: "wildcard"},
		"public suffix":    {text: "*.co.uk\n", want: "public suffix"},
		"underscore":       {text: "my_app.example.com\n"},
		"address and port": {text: "192.0.2.1:443\n", want: "IP address"},
		"range":            {text: "192.0.2.0/24\n", want: "IP addresses"},
		"zone":             {text: "fe80::1%eth0\n", want: "IP address"},
		"YAML":             {text: "- example.com\n- www.example.com\n"},
		"JSON":             {text: "[\"example.com\"]\n"},
		"form feed":        {text: "example.com\f\n"},
		"backslash n":      {text: `example.com\nwww.example.com`},
		"NULs at the end":  {text: "example.com\n\x00\x00\x00\x00"},
		"escape sequence":  {text: "\x1b[2Jexample.com\n"},
	} {
		table.Run(t, "B28/"+name, func(t *T) {
			path := filepath.Join(t.TempDir(), "hosts.txt")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			list, err := certmgr.OpenAllowlist(path)
			if err == nil {
				if names := strings.Join(slices.Sorted(list.All()), " "); names != tt.names {
					t.Errorf("%q are on the list, want %q", names, tt.names)
				}
				return
			}
			text := strings.ReplaceAll(err.Error(), filepath.Dir(path), "") // which names the case
			if tt.names != "" || !strings.Contains(text, tt.want) {
				t.Errorf("%v, want names %q, or an error that says %q", err, tt.names, tt.want)
			}
			if strings.ContainsAny(text, "\n\r\x00\f\x1b") {
				t.Errorf("the error is no clean line: %q", text)
			}
		})
	}
}
