#!/bin/sh
# The main job, on a machine that has only Go: where can a device go, and why
# not elsewhere. The inventories are recordings of real kernels with real
# mediated devices; `make lab-record` takes them again.
set -u
cd "$(dirname "$0")/.." || exit 1
kindred=bin/kindred
serial=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
display=83b8f4f2-509f-382f-3c1e-e6bfe0fa2001
failed=0

say() { printf '\n%s\n' "$*"; }

# step WANTED-EXIT-CODE COMMAND...: shows a command, runs it, checks how it ended
step() {
	want=$1; shift
	printf '\n$ %s\n\n' "$*"
	"$@"
	got=$?
	if [ "$got" -ne "$want" ]; then
		printf '\nThis should have ended with exit code %s, not %s.\n' "$want" "$got"
		failed=1
	fi
}

cat <<'TEXT'
Five hosts, recorded: Debian 6.12 kernels in QEMU with the kernel's own sample
drivers. Nothing here is simulated, and nothing here runs now: `make lab` boots
such hosts with a shell on each.

  host-a   the device's host                host-d   the same, its serial ports used up
  host-b   the same drivers, same build     host-e   without that driver
  host-c   another build of the driver
TEXT

say "These devices are on host-a:"
step 0 $kindred device list --inventory demo/recorded/host-a.json
say "Where can the serial card (mtty-2) go, and why not elsewhere?"
step 0 $kindred targets $serial --inventory demo/recorded
say "Every reason, for the host that is not known to be safe:"
step 3 $kindred targets $serial --inventory demo/recorded/host-a.json demo/recorded/host-c.json --explain
say "The display (mdpy-xga) cannot go anywhere; exit code 4 says so to a script:"
step 4 $kindred targets $display --inventory demo/recorded
say "Which hosts can send to which?"
step 0 $kindred matrix --inventory demo/recorded
say "What would change an answer?"
step 0 $kindred reason build.unproven

[ $failed -eq 0 ] && say "Next: make lab, then on each host: kindred inspect -o json"
exit $failed
