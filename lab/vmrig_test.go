// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// labVMs is a fleet whose hosts run VMs by libvirt and QEMU. The VMs run the
// software in lab/vm, which notices whatever happens to their devices.
type labVMs struct {
	*labFleet
	lan *LAN
	vms map[string]*labVM
}

// labVM is one VM, on whatever host.
type labVM struct {
	name    string
	id      string
	ballast int // MiB to move besides the devices
	devices []string
	host    string         // where it runs
	said    string         // on its serial port, on hosts that it has left
	offset  map[string]int // of what is not in said yet, of each host's file
}

// needVMs skips tests that run VMs, unless they were asked for.
func needVMs(t *testing.T) string {
	t.Helper()
	if os.Getenv("KINDRED_LAB_VM") != "1" {
		t.Skip("runs real VMs inside of real kernels, some minutes; run it with: make lab-vm")
	}
	image, err := CachedHypervisor("")
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the hosts that run VMs were not prepared; run: make lab-vm-image")
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// newVMs boots hosts that run VMs, with agents that joined a server here.
func newVMs(t *testing.T, hosts ...Host) *labVMs {
	image := needVMs(t)
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = hosts[i].Name
	}
	v := &labVMs{lan: NewLAN(names...), vms: make(map[string]*labVM)}
	for i := range hosts {
		hosts[i].LAN, hosts[i].Disk, hosts[i].Memory = v.lan, image, 1024
	}
	v.labFleet = newFleet(t, hosts...)
	software := filepath.Join(v.dir, "vm")
	if err := BuildVM(v.ctx, software); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(software)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		g := v.guests[name]
		if err := g.Put(v.ctx, "/var/lib/vm", 0o644, bytes.NewReader(program)); err != nil {
			t.Fatal(err)
		}
		sh(v.ctx, t, g.Client, hypervisorSetup)
		v.startLibvirt(name)
	}
	t.Cleanup(v.explainVMs)
	return v
}

// hypervisorSetup is what installing the packages would have done, and a
// configuration: root runs QEMU, and libvirt listens to the other hosts, of which
// there are none but friends.
const hypervisorSetup = `
ln -sf kindred /usr/bin/mdevctl
echo "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false" >>/etc/passwd
printf "kvm:x:104:\nlibvirt-qemu:x:64055:\nlibvirt:x:105:\n" >>/etc/group
mkdir -p /etc/libvirt/hooks /run/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
cat >/etc/libvirt/libvirtd.conf <<.
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "2:file:/var/log/libvirtd.log"
.
cat >/etc/libvirt/qemu.conf <<.
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
.
/usr/lib/systemd/systemd-udevd --daemon >/dev/null 2>&1
udevadm trigger --action=add
udevadm settle
`

func (v *labVMs) startLibvirt(host string) {
	v.t.Helper()
	sh(v.ctx, v.t, v.guests[host].Client, "libvirtd --listen --daemon >/dev/null")
	v.until("libvirt on "+host+" answers", func() bool {
		code, _, _ := v.virsh(host, "version")
		return code == 0
	})
}

// explainVMs shows what libvirt and QEMU said, when the test failed.
func (v *labVMs) explainVMs() {
	if !v.t.Failed() {
		return
	}
	for name, g := range v.guests {
		r, err := g.Run(v.ctx, Cmd{Argv: []string{"sh", "-c", "tail -n 20 /var/log/libvirtd.log; tail -n 12 /var/log/libvirt/qemu/*.log | grep -v '^-'"}})
		if err == nil {
			v.t.Logf("libvirt and QEMU on %s said:\n%s", name, r.Stdout)
		}
	}
}

// virsh runs virsh on a host.
func (v *labVMs) virsh(host string, args ...string) (code int, stdout, stderr string) {
	v.t.Helper()
	r, err := v.guests[host].Run(v.ctx, Cmd{Argv: append([]string{"virsh", "-q", "-c", "qemu:///system"}, args...)})
	if err != nil {
		v.t.Fatal(err)
	}
	return r.ExitCode, strings.TrimSpace(string(r.Stdout)), strings.TrimSpace(string(r.Stderr))
}

// virshOK is for what must succeed.
func (v *labVMs) virshOK(host string, args ...string) string {
	v.t.Helper()
	code, stdout, stderr := v.virsh(host, args...)
	if code != 0 {
		v.t.Fatalf("virsh %s on %s: exit code %d: %s", strings.Join(args, " "), host, code, stderr)
	}
	return stdout
}

// xml is the VM's definition. The sample driver keeps no dirty page log, so QEMU
// has to be told to migrate it all the same; it does no DMA.
func (vm *labVM) xml() string {
	var devices, overrides strings.Builder
	for i, d := range vm.devices {
		fmt.Fprintf(&devices, `    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source>
        <address uuid='%s'/>
      </source>
      <alias name='ua-device%d'/>
    </hostdev>
`, d, i)
		fmt.Fprintf(&overrides, `    <qemu:device alias='ua-device%d'>
      <qemu:frontend>
        <qemu:property name='enable-migration' type='string' value='on'/>
      </qemu:frontend>
    </qemu:device>
`, i)
	}
	return fmt.Sprintf(`<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>%s</name>
  <uuid>%s</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>/var/lib/vm</kernel>
    <cmdline>ballast=%d</cmdline>
  </os>
  <cpu mode='custom'>
    <model>qemu64</model>
  </cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='/var/log/%s.serial' append='on'/>
    </serial>
    <memballoon model='none'/>
%s  </devices>
  <qemu:override>
%s  </qemu:override>
</domain>
`, vm.name, vm.id, vm.ballast, vm.name, devices.String(), overrides.String())
}

// start defines a VM on a host and starts it there.
func (v *labVMs) start(host string, vm *labVM) {
	v.t.Helper()
	vm.host, vm.offset = host, make(map[string]int)
	v.vms[vm.name] = vm
	file := "/etc/libvirt/" + vm.name + ".xml"
	if err := v.guests[host].Put(v.ctx, file, 0o644, strings.NewReader(vm.xml())); err != nil {
		v.t.Fatal(err)
	}
	v.virshOK(host, "define", file)
	v.virshOK(host, "start", vm.name)
	v.goesOn(vm)
}

// serial is what the VM said on the host where it is, since it came there.
func (v *labVMs) serial(vm *labVM) string {
	v.t.Helper()
	data, err := v.guests[vm.host].Get(v.ctx, "/var/log/"+vm.name+".serial")
	if err != nil {
		v.t.Fatal(err)
	}
	return string(data[min(vm.offset[vm.host], len(data)):])
}

// moved is to be said when the VM is on another host.
func (v *labVMs) moved(vm *labVM, to string) {
	v.t.Helper()
	text := v.serial(vm)
	vm.said += text
	vm.offset[vm.host] += len(text)
	vm.host = to
}

// vmRound is one line of the VM's: which device, how much it was fed until now,
// and what came of the comparison with the VM's own model.
var vmRound = regexp.MustCompile(`(?m)^round (\d+) device (\d+) fed (\d+) digest ([0-9a-f]{16}) ok$`)

// goesOn waits until the VM has done some more rounds where it is, and fails the test
// if there is a gap in any that it ever did.
func (v *labVMs) goesOn(vm *labVM) {
	v.t.Helper()
	const more = 5
	count := func() int { return len(vmRound.FindAllString(v.serial(vm), -1)) }
	before := count()
	v.until(fmt.Sprintf("%s on %s goes on", vm.name, vm.host), func() bool { return count() >= before+more*len(vm.devices) })
	v.noGap(vm)
}

// noGap: every round of every device was done once, none is missing, each was found
// to be what the VM's model of the device says.
func (v *labVMs) noGap(vm *labVM) {
	v.t.Helper()
	const words = 8 // fed in a round
	text := vm.said + v.serial(vm)
	end := strings.LastIndexByte(text, '\n') + 1 // the last line may not be complete
	next := make([]int, len(vm.devices))
	for line := range strings.Lines(text[:end]) {
		line = strings.TrimSpace(line)
		if line == "" || line == "vm: up" || strings.HasPrefix(line, "device at ") && !strings.Contains(line, "GAP") {
			continue
		}
		m := vmRound.FindStringSubmatch(line)
		if m == nil {
			v.t.Fatalf("%s says %q", vm.name, line)
		}
		round, _ := strconv.Atoi(m[1])
		device, _ := strconv.Atoi(m[2])
		fed, _ := strconv.Atoi(m[3])
		if device >= len(next) || round != next[device] || fed != round*words {
			v.t.Fatalf("%s says %q, where round %d is to come", vm.name, line, next[min(device, len(next)-1)])
		}
		next[device]++
	}
}
