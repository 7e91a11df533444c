// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kindred/lab/internal/wire"
)

const (
	defaultMemory = 512 // MiB
	// powerOffGrace is what a guest gets to power off before QEMU is killed.
	powerOffGrace = 5 * time.Second
)

// Guest is a booted host. It must be closed.
type Guest struct {
	*Client
	Name    string
	Release string // of the running kernel

	qemu    *process
	console *console
	closing sync.Once
	closed  atomic.Bool
}

var errClosed = errors.New("the guest was closed")

// Boot starts a host and returns when it answers; ctx bounds only the start. The
// error of a guest that dies meanwhile is a [*DiedError] with the end of its console.
//
// A kernel that broke on its own breakpoint before anything of ours ran is booted
// again; see [tornText].
func Boot(ctx context.Context, a *Artefacts, h Host) (*Guest, error) {
	g, err := boot(ctx, a, h)
	for again := 0; again < 2 && tornText(err); again++ {
		g, err = boot(ctx, a, h)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: booting host %q: %w", h.Name, err)
	}
	return g, nil
}

// tornText: a kernel changes its text while it runs by way of a breakpoint
// (arch/x86/kernel/alternative.c, text_poke_bp). Under TCG the other processor
// now and then meets that breakpoint when the kernel has forgotten it already, and
// dies of int3: one boot in hundreds, seconds before the guest's first word. With
// one processor there is no such boot, and no concurrency to test either.
func tornText(err error) bool {
	died, ok := errors.AsType[*DiedError](err)
	return ok && strings.Contains(died.Console, "Oops: int3")
}

func boot(ctx context.Context, a *Artefacts, h Host) (_ *Guest, err error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	initrd, err := h.memfd(a)
	if err != nil {
		return nil, err
	}
	defer initrd.Close()
	port, portFile, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer portFile.Close()
	serial, serialFile, err := socketPair()
	if err != nil {
		port.Close()
		return nil, err
	}
	defer serialFile.Close()

	// The guest's end of everything is an inherited descriptor: there is no path
	// that could be taken, left behind or too long for a socket.
	files := []*os.File{initrd, serialFile, portFile}
	if h.LAN != nil {
		plug, err := h.LAN.plug(h.Name)
		if err != nil {
			port.Close()
			serial.Close()
			return nil, err
		}
		defer plug.Close()
		files = append(files, plug)
	}
	qemu, err := startQEMU(h, a, files)
	if err != nil {
		port.Close()
		serial.Close()
		return nil, err
	}
	g := &Guest{Client: newClient(h.Name, port), Name: h.Name, qemu: qemu, console: newConsole(serial)}
	g.explain = g.whyGone
	// QEMU holds the only other ends: with ours closed here, its end is ours.
	portFile.Close()
	serialFile.Close()
	if err := g.greeting(ctx); err != nil {
		g.kill()
		return nil, err
	}
	go g.receive()
	return g, nil
}

// greeting waits for the guest's first word.
func (g *Guest) greeting(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { g.conn.SetReadDeadline(time.Unix(1, 0)) })
	var hello wire.Response
	_, err := wire.Read(g.conn, &hello)
	switch {
	case !stop() && err != nil:
		return fmt.Errorf("no answer yet: %w\nits console said:\n%s", context.Cause(ctx), died(g.Name, g.console.text(), "").Console)
	case err != nil:
		return g.whyGone(err)
	}
	g.conn.SetReadDeadline(time.Time{})
	g.Release = hello.Release
	return nil
}

// whyGone waits for QEMU to be gone, which a lost connection announces, so that
// the console has been read to its end.
func (g *Guest) whyGone(err error) error {
	if g.closed.Load() {
		return errClosed
	}
	select {
	case <-g.qemu.done:
	case <-time.After(powerOffGrace):
		return fmt.Errorf("%w, but its QEMU runs on", err)
	}
	select {
	case <-g.console.done:
	case <-time.After(time.Second):
	}
	return died(g.Name, g.console.text(), g.qemu.ended())
}

// Close powers the guest off, and kills it if that takes too long. Nothing of it
// is left afterwards. Closing again does nothing.
func (g *Guest) Close() error {
	g.closing.Do(func() {
		g.closed.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), powerOffGrace)
		defer cancel()
		if g.send(ctx, wire.Request{Op: wire.OpPowerOff}, nil) == nil {
			select {
			case <-g.qemu.done:
			case <-ctx.Done():
			}
		}
		g.kill()
	})
	return nil
}

func (g *Guest) kill() {
	g.qemu.kill()
	g.fail(errClosed)
	g.conn.Close()
	g.console.conn.Close()
	<-g.console.done
}

// Wait returns when the guest has gone away by itself, with a [*DiedError], or nil
// when ctx ends.
func (g *Guest) Wait(ctx context.Context) error {
	select {
	case <-g.qemu.done:
		return g.whyGone(io.ErrUnexpectedEOF)
	case <-ctx.Done():
		return nil
	}
}

// PID is QEMU's.
func (g *Guest) PID() int { return g.qemu.pid }

// Serve lets other programs of this machine use the guest by [Dial], until ctx ends.
func (g *Guest) Serve(ctx context.Context, l net.Listener) error {
	return accept(ctx, l, func(conn net.Conn) {
		// Its end is told to the client by closing; there is no one else to tell.
		_ = wire.Serve(ctx, conn, func(ctx context.Context, req wire.Request, body []byte) (wire.Response, []byte) {
			if req.Op == wire.OpPowerOff {
				return wire.Response{Error: "only the program that booted a guest may power it off"}, nil
			}
			r, err := g.exchange(ctx, req, body) // the client says what it asked
			if err != nil {
				return wire.Response{Error: err.Error()}, nil
			}
			return r.resp, r.body
		})
	})
}

// memfd packs the initramfs into memory that QEMU can open and that is gone with
// its last user.
func (h Host) memfd(a *Artefacts) (*os.File, error) {
	t, err := h.initramfs(a)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("kindred-lab-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for the initramfs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	if err := t.write(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// socketPair returns our end as a connection and the other to be inherited.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a pair of sockets: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close() // FileConn takes a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("a pair of sockets: %w", err)
	}
	return conn, theirs, nil
}

// qemuArgs expects the initramfs, the serial line, the port and the LAN's plug as
// descriptors 3 to 6. TCG always: nested KVM hangs on some machines that offer it.
func qemuArgs(h Host, a *Artefacts) []string {
	memory := h.Memory
	if memory == 0 {
		memory = defaultMemory
	}
	kernelArgs := append([]string{
		"console=ttyS0", "quiet", "rdinit=/init",
		"panic=-1", // at once, which with -no-reboot ends QEMU
		"random.trust_cpu=on", "no_timer_check", "mitigations=off",
	}, h.KernelArgs...)
	args := []string{
		"-name", "kindred-lab-" + h.Name,
		"-accel", "tcg",
		"-cpu", "qemu64,+rdrand", // else the guest has no randomness to start TLS with
		"-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", a.vmlinux(),
		"-initrd", "/proc/self/fd/3",
		"-append", strings.Join(kernelArgs, " "),
		"-chardev", "socket,id=serial,fd=4", "-serial", "chardev:serial",
		"-chardev", "socket,id=lab,fd=5",
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=lab,name=" + wire.PortName,
	}
	if h.Network != nil {
		netdev := "user,id=net"
		for _, f := range h.Network.Forward {
			netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Here, f.There)
		}
		args = append(args, "-netdev", netdev, "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	if h.LAN != nil {
		args = append(args, "-netdev", "socket,id=lan,fd=6", "-device", "virtio-net-pci,netdev=lan,romfile=,mac="+h.LAN.mac(h.Name))
	}
	if h.Disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,readonly=on,file="+h.Disk, "-device", "virtio-blk-pci,drive=disk")
	}
	return append(args, h.QEMUArgs...)
}

// process is a running QEMU.
type process struct {
	pid     int
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	waitErr error
	done    chan struct{}
}

// startQEMU starts it so that it cannot outlive this program: the kernel kills it
// with the thread that started it, which is kept until QEMU has ended.
func startQEMU(h Host, a *Artefacts, files []*os.File) (*process, error) {
	cmd := exec.Command("qemu-system-x86_64", qemuArgs(h, a)...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = io.Discard, &p.stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.waitErr = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means it has ended
	<-p.done
}

// ended describes the end; only valid once done.
func (p *process) ended() string {
	said := strings.TrimSpace(p.stderr.String())
	switch {
	case p.waitErr == nil:
		return strings.TrimSpace("QEMU ended as after a power-off or panic. " + said)
	default:
		return fmt.Sprintf("QEMU: %v: %s", p.waitErr, said)
	}
}
