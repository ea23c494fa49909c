#!/usr/bin/env bash
# Measures how many statements of the packages that end up in users' programs the
# tests of the core module execute, all tests together. Prints the share of each
# package and the functions that no test calls, and fails below the least share.
#
#     bash scripts/coverage.sh [profile]
#
# It takes some minutes. With the profile, go tool cover -html shows each line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

least=97 # percent, of all packages together
profile=${1:-}
if [[ -z $profile ]]; then
	profile=$(mktemp)
	trap 'rm -f "$profile"' EXIT
fi
module=$(go list -m)
packages=$(go list -deps ./certmgr ./certmgr/status | grep "^$module/" | paste -sd, -)

go test -timeout 30m -coverpkg="$packages" -coverprofile="$profile" ./... | sed 's/\tcoverage:.*//'

printf '\nfunctions that no test calls:\n'
go tool cover -func="$profile" | awk '$NF == "0.0%" { print $1, $2 }'

# A block has a line for each package whose tests ran: "file:from,to statements
# times".
printf '\nstatements:\n'
awk -v module="$module/" -v least="$least" '
	NR > 1 {
		size[$1] = $2
		if ($3 > 0) run[$1] = 1
	}
	END {
		for (block in size) {
			package = block
			sub(/\/[^\/]*$/, "", package)
			sub(module, "", package)
			all[package] += size[block]
			total += size[block]
			if (block in run) {
				hit[package] += size[block]
				totalHit += size[block]
			}
		}
		for (package in all) printf "%-24s %5.1f%% of %d\n", package, 100 * hit[package] / all[package], all[package] | "sort"
		close("sort")
		printf "%-24s %5.1f%% of %d\n", "together", 100 * totalHit / total, total
		exit 100 * totalHit / total < least
	}' "$profile"
