// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/api"
)

// labVMs is a fleet whose hosts run VMs by libvirt and QEMU. The VMs run the
// software in lab/vm, which notices whatever happens to their devices.
type labVMs struct {
	*labFleet
	lan   *LAN
	vms   map[string]*labVM
	story *story
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
	v := &labVMs{lan: NewLAN(names...), vms: make(map[string]*labVM), story: new(story)}
	for i := range hosts {
		hosts[i].LAN, hosts[i].Disk, hosts[i].Memory = v.lan, image, 1024
		// A guest that has to wait for its turn on a busy machine is not stuck.
		hosts[i].KernelArgs = append(hosts[i].KernelArgs, "nosoftlockup")
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
		v.installHook(name)
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

// installHook does what docs/libvirt.md says.
func (v *labVMs) installHook(host string) {
	v.t.Helper()
	hook, err := os.ReadFile("../packaging/libvirt/qemu")
	if err != nil {
		v.t.Fatal(err)
	}
	g := v.guests[host]
	if err := g.Put(v.ctx, "/etc/libvirt/hooks/qemu", 0o755, bytes.NewReader(hook)); err != nil {
		v.t.Fatal(err)
	}
	env := "KINDRED_SERVER=https://" + v.outside() + "\n"
	if err := g.Put(v.ctx, "/etc/kindred/agent.env", 0o644, strings.NewReader(env)); err != nil {
		v.t.Fatal(err)
	}
}

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
		r, err := g.Run(context.WithoutCancel(v.ctx), Cmd{Argv: []string{"sh", "-c", "tail -n 20 /var/log/libvirtd.log; tail -n 12 /var/log/libvirt/qemu/*.log | grep -v '^-'"}})
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

// hasEnded is how a command on a host ended.
type hasEnded struct {
	code   int
	stdout string
	stderr string
}

// migrateArgs is how a user moves a VM. QEMU of the lab's hosts is told how fast
// where it has to last.
func migrateArgs(vm *labVM, to string, more ...string) []string {
	argv := []string{"virsh", "migrate", "--live", "--p2p", "--persistent", "--undefinesource"}
	return append(append(argv, more...), vm.name, "qemu+tcp://"+to+"/system")
}

// begin starts a command on a host; what it ended with comes through the channel.
func (v *labVMs) begin(host string, argv ...string) <-chan hasEnded {
	v.t.Helper()
	done := make(chan hasEnded, 1)
	g := v.guests[host]
	go func() {
		r, err := g.Run(v.ctx, Cmd{Argv: argv})
		if err != nil {
			done <- hasEnded{code: -1, stderr: err.Error()}
			return
		}
		done <- hasEnded{r.ExitCode, strings.TrimSpace(string(r.Stdout)), strings.TrimSpace(string(r.Stderr))}
	}()
	return done
}

// ends waits for it.
func (v *labVMs) ends(what string, done <-chan hasEnded) hasEnded {
	v.t.Helper()
	select {
	case r := <-done:
		if r.code == -1 {
			v.t.Fatalf("%s: %s", what, r.stderr)
		}
		return r
	case <-time.After(2 * patience):
		v.t.Fatalf("%s did not end within %v", what, 2*patience)
		panic("not reached")
	}
}

// types runs a command on a host as its user does, puts it and what it said on
// the page, and wants that exit code and these texts.
func (v *labVMs) types(host string, code int, texts []string, argv ...string) hasEnded {
	v.t.Helper()
	r := v.ends(strings.Join(argv, " "), v.begin(host, argv...))
	v.checks(host, r, code, texts, argv...)
	return r
}

func (v *labVMs) checks(host string, r hasEnded, code int, texts []string, argv ...string) {
	v.t.Helper()
	said := strings.TrimSpace(r.stdout + "\n" + r.stderr)
	v.story.command(host, argv, said)
	if r.code != code {
		v.t.Fatalf("%s on %s: exit code %d, want %d: %s", strings.Join(argv, " "), host, r.code, code, said)
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			v.t.Errorf("%s on %s says this, without %q:\n%s", strings.Join(argv, " "), host, text, said)
		}
	}
}

// migrates moves a VM with its devices and looks at everything afterwards: it
// goes on without a gap, one host has its devices, nothing is held any more.
func (v *labVMs) migrates(vm *labVM, to string, more ...string) *api.Migration {
	v.t.Helper()
	from := vm.host
	v.types(from, 0, nil, migrateArgs(vm, to, more...)...)
	return v.arrived(vm, to)
}

// arrived looks at a VM that was moved.
func (v *labVMs) arrived(vm *labVM, to string) *api.Migration {
	v.t.Helper()
	from := vm.host
	v.moved(vm, to)
	m := v.gets(v.migrationOf(vm, from, to).ID, api.Completed)
	if m.Host != to {
		v.t.Errorf("the owner is %s", m.Host)
	}
	if len(m.Devices) != len(vm.devices) {
		v.t.Fatalf("%s has %d devices, %d were moved", vm.name, len(vm.devices), len(m.Devices))
	}
	for _, d := range m.Devices {
		i := slices.Index(vm.devices, d.Source)
		if i < 0 || v.there(from, d.Source) || !v.there(to, d.Target) {
			v.t.Fatalf("device %s of %s: not its own, still on %s, or not on %s as %s", d.Source, vm.name, from, to, d.Target)
		}
		vm.devices[i] = d.Target
	}
	v.goesOn(vm)
	v.nothingHeld()
	code, _, _ := v.virsh(from, "domuuid", vm.name)
	if code == 0 {
		v.t.Errorf("%s is still defined on %s", vm.name, from)
	}
	v.definedWith(vm)
	v.story.note("%s runs on %s: %s. Its devices are gone from %s; no room is held.", vm.name, to, v.progress(vm), from)
	return m
}

// migrationOf is the one on record of a VM that went from one host to another.
func (v *labVMs) migrationOf(vm *labVM, from, to string) *api.Migration {
	v.t.Helper()
	var list []api.Migration
	v.asks(0, &list, nil, "migration", "list", "--all")
	i := slices.IndexFunc(list, func(m api.Migration) bool {
		return m.Source == from && m.Target == to && m.State != api.Aborted && slices.Contains(vm.devices, m.Devices[0].Source)
	})
	if i < 0 {
		v.t.Fatalf("no migration of %s from %s to %s is on record", vm.name, from, to)
	}
	return &list[i]
}

// nothingHeld waits until no migration is under way and no claim holds room.
func (v *labVMs) nothingHeld() {
	v.t.Helper()
	v.until("nothing is under way or held", func() bool {
		_, _, claims := v.run("kindred", "claim", "list")
		_, _, migrations := v.run("kindred", "migration", "list")
		return strings.Contains(claims, "no claim holds room") && strings.Contains(migrations, "no migration is under way")
	})
}

// stays looks at a VM that was to move and did not.
func (v *labVMs) stays(vm *labVM, before map[string][]string) {
	v.t.Helper()
	v.goesOn(vm)
	v.nothingHeld()
	v.until("the hosts have what they had", func() bool { return cmp.Diff(before, v.all()) == "" })
	for host := range v.guests {
		code, _, _ := v.virsh(host, "domstate", vm.name)
		if (code == 0) != (host == vm.host) {
			v.t.Errorf("virsh domstate %s on %s ends with %d; it is on %s", vm.name, host, code, vm.host)
		}
	}
	v.story.note("%s runs on, on %s: %s. No device is on the target; no room is held.", vm.name, vm.host, v.progress(vm))
}

// all is what every host has by its kernel and in its files: devices, of which type
// and parent, and definitions.
func (v *labVMs) all() map[string][]string {
	v.t.Helper()
	all := make(map[string][]string)
	for name, g := range v.guests {
		list := sh(v.ctx, v.t, g.Client, `cd /sys/bus/mdev/devices; for d in *; do test -e $d && echo $d $(readlink -f $d/mdev_type); done
			find /etc/mdevctl.d -type f 2>/dev/null | sort; true`)
		all[name] = strings.Split(list, "\n")
	}
	return all
}

// progress says what the VM found until now.
func (v *labVMs) progress(vm *labVM) string {
	v.noGap(vm)
	text := vm.said + v.serial(vm)
	all := vmRound.FindAllStringSubmatch(text, -1)
	return fmt.Sprintf("%s rounds, %s words fed to each device, none missing, last digest %s", all[len(all)-1][1], all[len(all)-1][3], all[len(all)-1][4])
}

// definedWith: also when the VM is started again some day, it gets these devices.
func (v *labVMs) definedWith(vm *labVM) {
	v.t.Helper()
	v.until(fmt.Sprintf("the definition of %s on %s has %v", vm.name, vm.host, vm.devices), func() bool {
		xml := v.virshOK(vm.host, "dumpxml", "--inactive", vm.name)
		return !slices.ContainsFunc(vm.devices, func(d string) bool { return !strings.Contains(xml, "'"+d+"'") })
	})
}
