#!/bin/sh
# Everything that `make test` checks. What cannot run on this machine is skipped
# with one line that says why; what runs must pass.
set -eu
cd "$(dirname "$0")/.."
skipped=""
skip() { skipped="$skipped
skipped: $*"; }
say() { printf '\n== %s\n' "$*"; }

debian_root=false
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	debian_root=true
fi

# installs PACKAGES WHY: on Debian as root.
installs() {
	if $debian_root; then
		say "installing $1 $2"
		# shellcheck disable=SC2086 # packages are words
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null || true
	fi
}
has() { command -v "$1" >/dev/null; }

has gcc || installs "gcc libc6-dev" "for the race detector"
race=""
if has gcc; then
	race="-race"
	export CGO_ENABLED=1
else
	skip "the race detector: there is no gcc (apt-get install gcc libc6-dev)"
	export CGO_ENABLED=0
fi
{ has mdevctl && has strace; } || installs "mdevctl strace" "to compare the dialect with it, and to break commands off at every system call that changes a file"
has strace || skip "breaking commands off at every system call: there is no strace (apt-get install strace)"
has ip || installs iproute2 "for network namespaces"
{ has ip && [ "$(id -u)" = 0 ]; } || skip "claims while servers are cut off from each other: it needs root and ip (apt-get install iproute2)"
examples=/usr/share/doc/libvirt-doc/html/formatdomain.html
[ -e $examples ] || installs libvirt-doc "for its examples of domains"
[ -e $examples ] || skip "libvirt's own examples of domains: they are not installed (apt-get install libvirt-doc)"
if [ "$(mdevctl --version 2>/dev/null)" != "mdevctl 1.2.0" ]; then
	skip "comparing with mdevctl itself: 1.2.0 is not installed (Debian 12's package mdevctl); what it said is compared with"
fi

say "format, vet, staticcheck"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not formatted (gofmt -w): $unformatted"
	exit 1
fi
go vet ./...
CGO_ENABLED=0 go -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
bin/staticcheck ./...
# Questions about inventory files are for every system; hosts are Linux.
GOOS=darwin CGO_ENABLED=0 go vet ./cmd/kindred ./fleet ./host/... ./definition/... ./agent ./trust
go mod verify >/dev/null

say "tests"
# Packages run beside one another: on a busy machine one may take longer than ten
# minutes, which is not what is tested.
go test $race -timeout 30m ./...
if [ -n "$race" ]; then
	# Every step at which somebody can be killed: the race detector had some of them.
	CGO_ENABLED=0 go test -count=1 -timeout 30m ./sim/hosts -run TestKilledAnywhere
fi

say "demo"
CGO_ENABLED=0 make -s demo ONCE=1 >bin/demo.out 2>&1 || { cat bin/demo.out; exit 1; }
echo ok

say "lab: real kernels with real devices"
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
	skip "the lab: it needs Linux on amd64"
elif ! command -v apt-get >/dev/null; then
	skip "the lab: it takes its kernel from Debian's packages, and there is no apt-get"
elif ! $debian_root && ! go run ./lab/cmd/kindred-lab prepare; then
	skip "the lab: packages are missing (see above); as root they are installed"
else
	go run ./lab/cmd/kindred-lab prepare libvirt || skip "libvirt in the lab: it could not be downloaded (see above)"
	KINDRED_LAB=1 go test -count=1 -timeout 60m -v ./lab >bin/lab.out || { cat bin/lab.out; exit 1; }
	tail -n 1 bin/lab.out
	if grep -q '^--- SKIP: TestVFIOByCdev' bin/lab.out; then
		skip "VFIO devices by cdev and iommufd: the kernel for it is not built (make lab-iommufd, ten minutes)"
	fi
fi

printf '%s\n' "$skipped"
say "all passed"
