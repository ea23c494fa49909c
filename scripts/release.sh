#!/usr/bin/env bash
# Makes the commit and the tags of a release, in this clone and nowhere else:
#
#	bash scripts/release.sh v0.2.0
#
# It needs no network and pushes nothing. The commit is made in a worktree of its
# own, and main and the tags move last, so that a release that is aborted or fails
# leaves the clone as it was. docs/releasing.md says what to do before and after.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The directories of the nested modules that are published. Each has a tag of its
# own, its directory before the version, or "go get" would not find it.
published=(certmgr/cache/rediscache certmgr/cache/sqlcache certmgr/prommetrics)

die() {
	printf 'release: %s\n' "$*" >&2
	exit 1
}

# Whatever is wrong is said before anything is done.
check() {
	local tag latest heading
	[[ $version =~ ^v[01]\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]] ||
		die "the version is \"$version\", want vX.Y.Z (from v2 on the module's path has to change too)"
	[[ $(git symbolic-ref --quiet --short HEAD) == main ]] || die 'releases are made on branch main: git switch main'
	[[ -z $(git status --porcelain) ]] || die 'the checkout has changes: commit them, or git stash -u'
	for tag in "${tags[@]}"; do
		! git rev-parse --quiet --verify "refs/tags/$tag" >/dev/null ||
			die "tag $tag exists: a version that somebody has seen is never used again"
	done
	latest=$({ git tag --list 'v*'; echo "$version"; } | sort --version-sort | tail -n 1)
	[[ $latest == "$version" ]] || die "$version is older than $latest"
	heading=$(grep -m 1 '^## ' CHANGELOG.md) || die 'CHANGELOG.md has no section'
	[[ $heading == '## [Unreleased]' || $heading == "## [${version#v}] - unreleased" ]] ||
		die "the first section of CHANGELOG.md is \"$heading\", want \"## [Unreleased]\" or \"## [${version#v}] - unreleased\""
	awk '/^## / { sections++ } sections == 1 && /^- / { found = 1 } END { exit !found }' CHANGELOG.md ||
		die "CHANGELOG.md lists nothing under \"$heading\""
	grep -qE "^go get $module/[^@ ]+@v" README.md || die "README.md has no line \"go get $module/...@v...\""
}

# Modules of this repository require each other at the new version. Inside the
# checkout their replace directives lead to each other's directories; for
# everybody else only the version counts.
set_requirements() {
	local file path
	git ls-files -- 'go.mod' '*/go.mod' | while read -r file; do
		for path in "${paths[@]}"; do
			if grep -qE "^(require)?[[:space:]]+$path v" "$file"; then
				GOWORK=off go mod edit -require="$path@$version" "$file"
			fi
		done
	done
}

# What was unreleased is in this version, and nothing is unreleased.
set_changelog() {
	awk -v released="## [${version#v}] - $(date -u +%Y-%m-%d)" '
		/^## / && !done { print "## [Unreleased]"; print ""; print released; done = 1; next }
		{ print }' CHANGELOG.md >"$scratch/changelog"
	cat "$scratch/changelog" >CHANGELOG.md
}

# The commands in the README get this version.
set_readme() {
	sed -E "s,^(go get $module/[^@ ]+@)v[^ ]+,\1$version," README.md >"$scratch/readme"
	cat "$scratch/readme" >README.md
}

# Undoes what was begun. A worktree's record goes with its directory.
clean_up() {
	local status=$? tag
	trap '' INT TERM
	if ((status != 0)); then
		for tag in "${made[@]}"; do
			git tag --delete "$tag" >/dev/null 2>&1 || true # it may not have got that far
		done
	fi
	rm -rf "$scratch"
	git worktree prune
	((status == 0)) || echo 'release: nothing was released, everything is as it was' >&2
	exit "$status"
}

version=${1-}
(($# == 1)) || die 'give the version: bash scripts/release.sh vX.Y.Z'
module=$(GOWORK=off go list -m)
tags=("$version") paths=("$module")
for dir in "${published[@]}"; do
	tags+=("$dir/$version") paths+=("$module/$dir")
done
check

made=() # the tags of this run
scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

git worktree add --quiet --detach "$scratch/tree" HEAD
(
	cd "$scratch/tree"
	set_requirements
	set_changelog
	set_readme
	git commit --quiet --all --message "all: release $version"
)
commit=$(git -C "$scratch/tree" rev-parse HEAD)
for tag in "${tags[@]}"; do
	made+=("$tag")
	git tag --annotate --message "$module $version" "$tag" "$commit"
done
trap '' INT TERM # either main moves too, or the tags go again
if ! git merge --quiet --ff-only "$commit"; then
	git reset --quiet --merge # the files may be those of the release already
	exit 1
fi

cat <<END
Released $version in this clone. Look at it:
	git show $version
Push the commit and all of its tags at once:
	git push --atomic origin main ${tags[*]}
Or take it back, as long as nothing is pushed:
	git tag --delete ${tags[*]} && git reset --hard HEAD~1
END
