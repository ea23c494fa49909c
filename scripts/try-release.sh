#!/usr/bin/env bash
# Proves that a release can be made of what is committed, and that anybody can get
# it: makes one in a scratch clone, has the go command build the module zips from
# its tags, and uses them from empty directories as the README says.
#
#	bash scripts/try-release.sh [DIR]
#
# With DIR, which must not exist, the core module is left there as users get it.
# The module cache of whoever runs this is read, and never written to.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
clone=$scratch/clone

export GOWORK=off
module=$(go list -m)
private=${module%/*}
machine_proxies=file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)
# Nothing of ours is known to the checksum database yet; all else is verified.
GONOSUMDB=$private$(go env GONOSUMDB | sed 's/^./,&/')
export GONOSUMDB
export GOFLAGS=-modcacherw # so that the scratch directory can be removed

fail() {
	printf 'try-release: %s\n' "$*" >&2
	exit 1
}

# The version that CHANGELOG.md prepares, or the next one after those that it
# knows.
next_version() {
	local prepared last
	prepared=$(sed -nE 's/^## \[([0-9.]+)\] - unreleased$/v\1/p' CHANGELOG.md)
	last=$(sed -nE 's/^## \[([0-9]+\.[0-9]+)\.[0-9]+\].*/\1/p' CHANGELOG.md | sort --version-sort | tail -n 1)
	if [[ -n $prepared ]]; then
		echo "$prepared"
	elif [[ -n $last ]]; then
		echo "v${last%.*}.$((${last#*.} + 1)).0"
	else
		echo v0.1.0
	fi
}

clone_repository() {
	git clone --quiet . "$clone" 2>/dev/null
	git -C "$clone" switch --quiet --force-create main "$(git rev-parse HEAD)"
	git -C "$clone" config user.name Release
	git -C "$clone" config user.email release@example.com
	git -C "$clone" config commit.gpgSign false
	git -C "$clone" config tag.gpgSign false
	if grep -A 2 -xF '## [Unreleased]' "$clone/CHANGELOG.md" | tail -n 1 | grep -q '^## '; then
		# Just after a release there is nothing to release.
		sed -i 's/^## \[Unreleased\]$/&\n\n- Tried a release./' "$clone/CHANGELOG.md"
		git -C "$clone" commit --quiet --all --message 'CHANGELOG: something to release'
	fi
}

# state prints what a release changes in the clone.
state() {
	git -C "$clone" status --porcelain
	git -C "$clone" symbolic-ref HEAD
	git -C "$clone" for-each-ref --format='%(refname) %(objectname)'
	git -C "$clone" worktree list
}

# refused WHY COMMAND... fails unless the command fails, says WHY and changes nothing.
refused() {
	local why=$1 before output
	shift
	before=$(state)
	if output=$("$@" 2>&1); then
		fail "should have been refused ($why): $*"
	fi
	[[ $output == *"$why"* ]] || fail "\"$why\" is missing in: $output"
	[[ $(state) == "$before" ]] || fail "changed the clone, though it failed: $*"
}

# What must not be released is not, and a release that breaks off leaves nothing.
try_refusals() {
	local release=(bash "$clone/scripts/release.sh") nested=certmgr/prommetrics/$version bad ref
	for bad in '' 0.1.0 v0.1 v0.01.0 v2.0.0 v0.1.0-rc.1; do
		refused 'want vX.Y.Z' "${release[@]}" "$bad"
	done
	refused 'give the version' "${release[@]}"

	touch "$clone/left-over"
	refused 'has changes' "${release[@]}" "$version"
	rm "$clone/left-over"

	git -C "$clone" switch --quiet --create aside
	refused 'on branch main' "${release[@]}" "$version"
	git -C "$clone" switch --quiet main
	git -C "$clone" branch --quiet --delete aside

	git -C "$clone" tag "$nested"
	refused 'exists' "${release[@]}" "$version"
	git -C "$clone" tag --delete "$nested" >/dev/null

	if grep -qE '^## .* - unreleased$' "$clone/CHANGELOG.md"; then
		refused 'the first section of CHANGELOG.md is' "${release[@]}" v0.999.0
	fi

	git -C "$clone" tag v1.99.0
	refused 'is older than' "${release[@]}" "$version"
	git -C "$clone" tag --delete v1.99.0 >/dev/null

	for ref in HEAD "refs/tags/$version" "refs/tags/$nested" refs/heads/main; do
		refused 'as it was' breaking_at "$ref" "${release[@]}" "$version"
	done
}

# breaking_at REF COMMAND... runs the command with a git that refuses to set REF.
breaking_at() {
	mkdir -p "$scratch/hooks"
	cat >"$scratch/hooks/reference-transaction" <<END
#!/bin/sh
test "\$1" != prepared || ! grep -qE '[1-9a-f][0-9a-f]* $1\$'
END
	chmod +x "$scratch/hooks/reference-transaction"
	shift
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.hooksPath GIT_CONFIG_VALUE_0=$scratch/hooks "$@"
}

# from_clone ARGUMENTS... runs the go command, to which the clone is the repository.
from_clone() {
	GOPROXY=direct GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$clone.insteadOf" GIT_CONFIG_VALUE_0="https://$module" \
		go "$@"
}

# make_zips makes the module zips of the release, under $scratch/published, which
# is then laid out as a module proxy. The go command finds the tags, as it will in
# the real repository, and checks file names and sizes. It does the same for the
# modules that are not published, for somebody may yet ask for a commit of theirs.
make_zips() {
	local tag file modules=()
	for tag in $(git -C "$clone" tag --points-at main); do
		tag=/$tag # now a slash precedes the version in any case
		modules+=("$module${tag%/*}@$version")
	done
	cd "$scratch"
	GOMODCACHE=$scratch/published from_clone mod download "${modules[@]}"

	modules=()
	for file in $(git -C "$clone" ls-files -- '*/go.mod'); do
		modules+=("$module/${file%/go.mod}@$(git -C "$clone" rev-parse HEAD)")
	done
	GOMODCACHE=$scratch/every from_clone mod download "${modules[@]}"
	cd "$clone"
	find "$scratch/published/cache/download" -name '*.zip' -printf '%P: %s bytes\n'
}

# fragment HEADING [LANGUAGE] prints the first piece of Go code, or of another
# language, in that section of the README.
fragment() {
	local code
	code=$(awk -v heading="## $1" -v fence="\`\`\`${2-go}" '
		/^## / { inside = $0 == heading }
		inside && $0 == fence && !n++ { on = 1; next }
		$0 == "```" { on = 0 }
		on' "$clone/README.md")
	[[ -n $code ]] || fail "README.md has no ${2-go} code under \"$1\""
	printf '%s\n' "$code"
}

# get PACKAGE makes an empty module and gets the package, as the README says.
get() {
	local dir
	grep -qxF "go get $1@$version" "$clone/README.md" || fail "README.md has no line \"go get $1@$version\""
	dir=$(mktemp -d -p "$scratch")
	cd "$dir"
	go mod init example.com/outside 2>/dev/null
	go get "$1@$version"
	grep -q "^\s*\(require \)\?$module.* $version" go.mod || fail "got another version than $version: $(cat go.mod)"
}

# The README's server with its test, and a server that used autocert before.
use_core() {
	get "$module/certmgr"
	mkdir server swapped
	fragment 'A complete server' >server/main.go
	fragment 'Test your own server' >server/main_test.go
	cat >swapped/main.go <<'END'
package main

import (
	"log"
	"net/http"

	"golang.org/x/crypto/acme/autocert"
)

func main() {
	m := &autocert.Manager{
		Cache:      autocert.DirCache("certs"),
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist("example.org", "www.example.org"),
	}
	server := &http.Server{Addr: ":https", TLSConfig: m.TLSConfig()}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
END
	fragment 'Switch from autocert' diff | swap_import swapped/main.go
	go build -o "$scratch/bin/" ./...
	go vet ./...
	go test ./...
}

# swap_import FILE replaces the line of its input that begins with "-" by that
# which begins with "+".
swap_import() {
	local old new
	IFS= read -r old && IFS= read -r new
	grep -qxF -- "${old#-}" "$1" || fail "README.md replaces a line that is not there: $old"
	sed -i "s|^${old#-}\$|${new#+}|" "$1"
	! grep -q 'x/crypto/acme/autocert' "$1" || fail "the import was not replaced by $new"
}

# The README's server that shows what it does, with the nested module.
use_prommetrics() {
	get "$module/certmgr/prommetrics"
	fragment 'See what happens' >main.go
	go mod tidy
	go build -o "$scratch/bin/" .
	go vet .
}

# A cache that several machines share. Whoever uses it requires no driver but the own
# one.
use_sqlcache() {
	local dir
	dir=$(mktemp -d -p "$scratch")
	cd "$dir"
	go mod init example.com/outside 2>/dev/null
	go get "$module/certmgr/cache/sqlcache@$version"
	cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/nostall/nostall/certmgr/cache/sqlcache"
)

func main() {
	c, err := sqlcache.New(nil, sqlcache.PostgreSQL)
	if err != nil {
		panic(err)
	}
	fmt.Print(c.DDL())
}
END
	go mod tidy
	go run . | grep -q 'CREATE TABLE' || fail 'sqlcache prints no tables'
	! go list -m all | grep -E 'pgx|mysql|modernc' || fail 'sqlcache requires drivers'
}

version=$(next_version)
clone_repository
try_refusals
bash "$clone/scripts/release.sh" "$version" >/dev/null
[[ -z $(git -C "$clone" status --porcelain) ]] || fail 'the release left changes in the clone'
make_zips

export GOMODCACHE=$scratch/modcache
export GOPROXY=file://$scratch/published/cache/download,$machine_proxies
(use_core)
(use_prommetrics)
(use_sqlcache)
if (($# > 0)); then
	cp -r "$scratch/published/$module@$version" "$1"
fi
