// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// bootLibvirt boots a host with PCI parents, udev, libvirt's node-device driver
// and ours as its mdevctl.
func bootLibvirt(t *testing.T) (context.Context, *Guest) {
	t.Helper()
	ctx, a := needLab(t)
	u, err := CachedUserland("", libvirtSuite, libvirtPackages)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("libvirt was not prepared; run: make lab-libvirt")
	}
	if err != nil {
		t.Fatal(err)
	}
	h := known(t, "gen8")
	h.Memory = 1024
	g := bootAll(ctx, t, a, h)[0]
	installKindred(ctx, t, g)
	if err := g.PutUserland(ctx, u, "", "/usr/sbin/libvirtd", "/usr/bin/virsh", "/usr/bin/udevadm", "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver", "/usr/share/libvirt/schemas"); err != nil {
		t.Fatal(err)
	}
	rule, err := os.Open("../packaging/udev/60-mdevctl.rules")
	if err != nil {
		t.Fatal(err)
	}
	defer rule.Close()
	if err := g.Put(ctx, "/etc/udev/rules.d/60-mdevctl.rules", 0o644, rule); err != nil {
		t.Fatal(err)
	}
	sh(ctx, t, g.Client, `ln -s kindred /usr/bin/mdevctl
		mkdir -p /etc/mdevctl.d /etc/libvirt /run/udev /run/libvirt /var/lib/libvirt
		printf 'auth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "2:file:/tmp/libvirtd.log"\n' >/etc/libvirt/libvirtd.conf
		ln -s /usr/bin/udevadm /usr/bin/systemd-udevd
		systemd-udevd --daemon >/dev/null 2>&1
		udevadm trigger --action=add && udevadm settle
		libvirtd --daemon >/tmp/libvirtd.out 2>&1 || { cat /tmp/libvirtd.out >&2; exit 1; }`)
	return ctx, g
}

// virsh runs one command of virsh.
func virsh(ctx context.Context, t *testing.T, g *Guest, args string) string {
	t.Helper()
	return sh(ctx, t, g.Client, "virsh -q -c nodedev:///system "+args)
}

// eventually waits for what libvirt learns from udev and inotify.
func eventually(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ready(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

const libvirtDevice = `<device><parent>pci_0000_00_10_0</parent><capability type='mdev'><type id='kdx-V4_4'/><uuid>` + movingDevice + `</uuid></capability></device>`

// TestLibvirt: libvirt's own commands, with ours in mdevctl's place.
func TestLibvirt(t *testing.T) {
	ctx, g := bootLibvirt(t)
	name := "mdev_" + strings.ReplaceAll(movingDevice, "-", "_")
	named := name + "_0000_00_10_0"
	list := func(args string) string { return virsh(ctx, t, g, "nodedev-list --cap mdev "+args) }

	eventually(t, "parents", func() bool {
		return virsh(ctx, t, g, "nodedev-list --cap mdev_types") == "pci_0000_00_10_0\npci_0000_00_11_0"
	})
	if xml := virsh(ctx, t, g, "nodedev-dumpxml pci_0000_00_10_0"); !strings.Contains(xml, "<type id='kdx-V4_4'>") {
		t.Errorf("the parent is\n%s", xml)
	}
	if err := g.Put(ctx, "/tmp/device.xml", 0o644, strings.NewReader(libvirtDevice)); err != nil {
		t.Fatal(err)
	}
	virsh(ctx, t, g, "nodedev-define /tmp/device.xml")
	eventually(t, "defined", func() bool { return list("--inactive") == named })
	if xml := virsh(ctx, t, g, "nodedev-dumpxml "+named); !strings.Contains(xml, "<uuid>"+movingDevice+"</uuid>") || !strings.Contains(xml, "kdx-V4_4") {
		t.Errorf("the definition is\n%s", xml)
	}
	// With attributes, in their order; then without.
	asDefined := virsh(ctx, t, g, "nodedev-dumpxml "+named)
	update := func(attrs string) {
		xml := strings.Replace(asDefined, "</capability>", attrs+"</capability>", 1)
		if err := g.Put(ctx, "/tmp/update.xml", 0o644, strings.NewReader(xml)); err != nil {
			t.Fatal(err)
		}
		virsh(ctx, t, g, "nodedev-update "+named+" /tmp/update.xml --config")
	}
	update("<attr name='b' value='2'/><attr name='a' value='1'/>")
	if text := sh(ctx, t, g.Client, "mdevctl list -dv"); !strings.Contains(text, "@{0}: {\"b\":\"2\"}\n    @{1}: {\"a\":\"1\"}") {
		t.Errorf("defined are %q", text)
	}
	eventually(t, "attributes", func() bool {
		return strings.Contains(virsh(ctx, t, g, "nodedev-dumpxml --inactive "+named), "<attr name='b' value='2'/>")
	})
	update("")
	virsh(ctx, t, g, "nodedev-autostart "+named)
	if text := sh(ctx, t, g.Client, "mdevctl list -d"); text != movingDevice+" 0000:00:10.0 kdx-V4_4 auto" {
		t.Errorf("defined are %q", text)
	}
	eventually(t, "autostart", func() bool {
		return strings.Contains(strings.Join(strings.Fields(virsh(ctx, t, g, "nodedev-info "+named)), " "), "Autostart: yes")
	})
	virsh(ctx, t, g, "nodedev-start "+named)
	eventually(t, "started", func() bool { return list("") == named })
	if text := sh(ctx, t, g.Client, "mdevctl list"); text != movingDevice+" 0000:00:10.0 kdx-V4_4 auto (defined)" {
		t.Errorf("running are %q", text)
	}
	virsh(ctx, t, g, "nodedev-destroy "+named)
	eventually(t, "stopped", func() bool { return list("") == "" })

	// udev starts it again when its parent comes back.
	sh(ctx, t, g.Client, "cd /sys/bus/pci/drivers/kdx; echo 0000:00:10.0 >unbind; udevadm settle; echo 0000:00:10.0 >bind; udevadm settle")
	eventually(t, "started by udev", func() bool { return list("") == named })
	virsh(ctx, t, g, "nodedev-destroy "+named)
	virsh(ctx, t, g, "nodedev-autostart --disable "+named)
	virsh(ctx, t, g, "nodedev-undefine "+named)
	eventually(t, "undefined", func() bool { return list("--all") == "" })
	if text := sh(ctx, t, g.Client, "mdevctl list -d; mdevctl list; ls /etc/mdevctl.d/*"); text != "" {
		t.Errorf("left are %q", text)
	}

	// A device that is not to stay.
	virsh(ctx, t, g, "nodedev-create /tmp/device.xml")
	eventually(t, "created", func() bool { return list("") == named })
	virsh(ctx, t, g, "nodedev-destroy "+named)
	eventually(t, "destroyed", func() bool { return list("--all") == "" })
}
