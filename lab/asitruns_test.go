// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"strings"
	"testing"
)

// TestDefinedAsItRuns: a running device is defined with the attributes it was
// made with, or that its callout knows; and attributes are files of the device
// alone.
func TestDefinedAsItRuns(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "gen8-open"))[0]
	installKindred(ctx, t, g)
	expect(ctx, t, g, 0, nil, "kindred", "device", "start", changeDevice, "-p", changeParent, "-t", changeType, "--attr", "weight=6")
	define := func(want string) {
		t.Helper()
		expect(ctx, t, g, 0, []string{`"running": true`}, "kindred", "device", "define", changeDevice, "-o", "json")
		expect(ctx, t, g, 0, []string{want}, "kindred", "device", "show", changeDevice)
		expect(ctx, t, g, 0, []string{`"running": true`}, "kindred", "device", "modify", changeDevice, "--auto", "-o", "json")
		expect(ctx, t, g, 0, nil, "kindred", "device", "undefine", changeDevice)
	}
	define("weight=6")
	sh(ctx, t, g.Client, `mkdir -p /etc/mdevctl.d/scripts.d/callouts
		printf '#!/bin/sh\ncase "$*" in *"-e get -a attributes"*) echo "[{\\"weight\\":\\"9\\"}]";; *) exit 0;; esac\n' > /etc/mdevctl.d/scripts.d/callouts/a
		chmod +x /etc/mdevctl.d/scripts.d/callouts/a`)
	define("weight=9")
	sh(ctx, t, g.Client, "rm -r /etc/mdevctl.d/scripts.d")

	const second = "83b8f4f2-509f-382f-3c1e-e6bfe0fa4002"
	for _, name := range []string{"subsystem/devices/" + changeDevice + "/remove", "mdev_type/create", "driver/unbind"} {
		expect(ctx, t, g, 1, []string{"is a link to what is not the device's"}, "kindred", "device", "start", second, "-p", changeParent, "-t", changeType, "--attr", name+"="+changeDevice)
	}
	if got := sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices"); got != changeDevice {
		t.Errorf("there are %q", got)
	}
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", changeDevice)
}

// TestFunctionScripts: scripts are told of the start and of the stop of a VF
// that is defined, by its definition's UUID, and of none of one that is not.
func TestFunctionScripts(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "vf"))[0]
	installKindred(ctx, t, g)
	const vf, typ = "0000:01:00.1", "vfio-pci-1b36:0010"
	sh(ctx, t, g.Client, `cd /sys/bus/pci/devices/0000:01:00.0; echo 0 > sriov_drivers_autoprobe; echo 2 > sriov_numvfs
		mkdir -p /etc/mdevctl.d/scripts.d/notifiers
		printf '#!/bin/sh\necho "$@" >> /tmp/told\n' > /etc/mdevctl.d/scripts.d/notifiers/a; chmod +x /etc/mdevctl.d/scripts.d/notifiers/a; touch /tmp/told`)
	expect(ctx, t, g, 0, []string{vf}, "kindred", "device", "start", vf, "-t", typ)
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", vf)
	if told := sh(ctx, t, g.Client, "cat /tmp/told"); told != "" {
		t.Errorf("of a VF without a UUID scripts were told %q", told)
	}
	uuid := expect(ctx, t, g, 0, nil, "kindred", "device", "define", vf, "-t", typ) // it knows its parent
	for _, name := range []string{vf, uuid} {
		sh(ctx, t, g.Client, "> /tmp/told")
		expect(ctx, t, g, 0, []string{vf}, "kindred", "device", "start", name)
		expect(ctx, t, g, 0, nil, "kindred", "device", "stop", name)
		want := lines("-t "+typ+" -e notify -a start -s success -u "+uuid+" -p 0000:01:00.0", "-t "+typ+" -e notify -a stop -s success -u "+uuid+" -p 0000:01:00.0")
		if told := strings.TrimSpace(sh(ctx, t, g.Client, "cat /tmp/told")); told != want {
			t.Errorf("%s: scripts were told %q, want %q", name, told, want)
		}
	}
	expect(ctx, t, g, 7, []string{"there is no such device"}, "kindred", "device", "stop", "0000:01:1f.7")
	expect(ctx, t, g, 7, []string{"look for 0000:01:1f.7: there is no such device"}, "kindred", "device", "define", "0000:01:1F.7", "-t", typ)

	// What Kindred keeps may be on another disk.
	sh(ctx, t, g.Client, "mkdir /srv && mv /var/lib/kindred /srv/ && ln -s /srv/kindred /var/lib/kindred")
	expect(ctx, t, g, 0, []string{vf}, "kindred", "device", "start", vf)
	sh(ctx, t, g.Client, "test -e /srv/kindred/devices/"+vf+".json")
	expect(ctx, t, g, 0, []string{"made by Kindred", "yes"}, "kindred", "device", "show", vf)
	expect(ctx, t, g, 0, nil, "kindred", "device", "stop", vf)
}
