// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// vmCommands: the same by Kindred's own commands on the source, with an
// administrator's certificate.
func vmCommands(t *testing.T, v *labVMs) {
	vm1 := v.vms["vm1"]
	v.administrates("gen8", "gen9")
	v.story.section("By kindred vm", "On the source, by an administrator (`/etc/kindred/client.yaml`).")
	v.types("gen8", 0, []string{vm1.devices[0][:8], "vm2"}, "kindred", "vm", "list")
	v.types("gen8", 0, []string{"gen9", "poor"}, "kindred", "vm", "targets", "vm1")
	v.types("gen8", 4, []string{"attribute.lacks"}, "kindred", "vm", "check", "vm1", "poor", "--explain")
	v.types("gen8", 5, []string{"room.joint", "vm.p2p"}, "kindred", "vm", "check", "vm2", "gen9")
	v.types("gen8", 0, nil, "kindred", "vm", "migrate", "vm1", "gen9", "--to", "qemu+tcp://gen9/system", "--persistent", "--undefine-source")
	v.arrived(vm1, "gen9")
	v.types("gen9", 0, nil, "kindred", "vm", "migrate", "vm1", "gen8", "--to", "qemu+tcp://gen8/system", "--persistent", "--undefine-source")
	v.arrived(vm1, "gen8")
}

// administrates gives hosts a user who may do everything.
func (v *labVMs) administrates(hosts ...string) {
	v.t.Helper()
	file := v.file("admin.pem")
	if code, _, said := v.run("kindredd", "admin", "create", "operator", "--file", file, "--server", "unix:"+v.file("sock")); code != 0 {
		v.t.Fatal(said)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		v.t.Fatal(err)
	}
	config := "servers: [https://" + v.outside() + "]\ncertificate: /etc/kindred/admin.pem\nkey: /etc/kindred/admin.pem\nca: /etc/kindred/admin.pem\n"
	for _, host := range hosts {
		g := v.guests[host]
		if err := g.Put(v.ctx, "/etc/kindred/admin.pem", 0o600, bytes.NewReader(pem)); err != nil {
			v.t.Fatal(err)
		}
		if err := g.Put(v.ctx, "/etc/kindred/client.yaml", 0o644, strings.NewReader(config)); err != nil {
			v.t.Fatal(err)
		}
	}
}
