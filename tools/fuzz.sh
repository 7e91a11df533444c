#!/bin/sh
# Runs every fuzz test of the tree for a while, one after the other.
# Usage: fuzz.sh [TIME]    (30s)
set -eu
cd "$(dirname "$0")/.."
time=${1:-30s}
grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
	grep -rhoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | while read -r name; do
		printf '== %s %s\n' "$dir" "$name"
		go test "$dir" -run '^$' -fuzz "^$name\$" -fuzztime "$time" </dev/null
	done
done
