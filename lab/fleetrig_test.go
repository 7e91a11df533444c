// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kindred/api"
	"kindred/inventory"
)

// labFleet is a server on this machine and agents on real kernels, with nothing
// between them but the commands that their users type.
type labFleet struct {
	t      *testing.T
	ctx    context.Context
	dir    string // of everything on this machine
	listen string // the server's address with TLS
	server *program
	guests map[string]*Guest
	agents map[string]string // process ids, by the host
	reach  map[string]string // how other guests call a host's port for canaries
}

// outside is how guests call this machine.
const outside = "10.0.2.2"

// canaryPort is where a guest's agent receives canaries' states.
const canaryPort = 7480

// patience is how long anything may take that nobody holds up. Guests are slow
// where the machine has other work.
const patience = 90 * time.Second

// newFleet starts the server, and on each host an agent that joined by a token
// and may manage all parents and types.
func newFleet(t *testing.T, hosts ...Host) *labFleet {
	_, a := needLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	reach := make(map[string]string)
	for i := range hosts {
		_, port, _ := net.SplitHostPort(freePort(t))
		here, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		reach[hosts[i].Name] = net.JoinHostPort(outside, port)
		hosts[i].Network = &Network{Forward: []Forward{{Here: here, There: canaryPort}}}
		// Of three guests on a busy machine one may have to wait: that is no news.
		hosts[i].KernelArgs = append(hosts[i].KernelArgs, "rcupdate.rcu_cpu_stall_suppress=1")
	}
	f := &labFleet{t: t, ctx: ctx, dir: t.TempDir(), guests: make(map[string]*Guest), agents: make(map[string]string), reach: reach}
	for _, g := range bootAll(ctx, t, a, hosts...) {
		f.guests[g.Name] = g
		installKindred(ctx, t, g)
		install(ctx, t, g, "driver/hold")
		f.allow(g.Name, allAllowed)
	}
	for _, name := range []string{"kindred", "kindredd"} {
		if err := BuildStatic(ctx, "kindred/cmd/"+name, f.file(name)); err != nil {
			t.Fatal(err)
		}
	}
	f.listen = freePort(t)
	t.Cleanup(func() { f.server.kill() })
	f.startServer()
	for _, h := range hosts {
		f.join(h.Name)
		f.startAgent(h.Name)
	}
	t.Cleanup(f.explain)
	return f
}

// explain shows what the programs said, when the test failed.
func (f *labFleet) explain() {
	if !f.t.Failed() {
		return
	}
	f.t.Logf("the server said:\n%s", tail(f.server.said()))
	for name, g := range f.guests {
		if log, err := g.Get(context.WithoutCancel(f.ctx), "/var/log/agent"); err == nil {
			f.t.Logf("the agent of %s said:\n%s", name, tail(string(log)))
		}
	}
}

func tail(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

func (f *labFleet) file(name string) string { return filepath.Join(f.dir, name) }

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// program is a program of this machine that runs until it is killed.
type program struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// startServer starts the server, on what an earlier one left.
func (f *labFleet) startServer() {
	f.t.Helper()
	log, err := os.OpenFile(f.file("server.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	p := &program{log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(f.file("kindredd"), "serve", "--verbose", "--data-dir", f.file("data"), "--socket", f.file("sock"), "--listen", f.listen, "--reach", outside,
		"--seal-key", f.file("seal.key"), "--catalogs", f.file("catalogs"), "--proof-keys", f.file("keys"), "--interval", "1s", "--timeout", "20s")
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the server dies with this thread
		defer runtime.UnlockOSThread()
		started <- p.cmd.Start()
		if p.cmd.Process != nil {
			_ = p.cmd.Wait() // it is killed
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		f.t.Fatal(err)
	}
	f.server = p
	f.until("the server listens", func() bool {
		select {
		case <-p.done:
			f.t.Fatalf("the server ended: %s", p.said())
		default:
		}
		c, err := net.Dial("unix", f.file("sock"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill is a SIGKILL, and the end of it.
func (p *program) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

func (p *program) said() string {
	data, _ := os.ReadFile(p.log)
	return string(data)
}

// run runs a program of this machine, as its user does.
func (f *labFleet) run(name string, args ...string) (code int, stdout, stderr string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.file(name), args...)
	cmd.Env = []string{"KINDRED_SERVER=unix:" + f.file("sock"), "HOME=" + f.file("home"), "TZ=UTC"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		f.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// asks runs kindred here, which must end with that code and say the texts, and
// decodes what it prints, if that is wanted.
func (f *labFleet) asks(code int, into any, texts []string, args ...string) {
	f.t.Helper()
	if into != nil {
		args = append(args, "-o", "json")
	}
	got, stdout, stderr := f.run("kindred", args...)
	if got != code {
		f.t.Fatalf("kindred %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stdout+stderr, text) {
			f.t.Errorf("kindred %s says this, without %q:\n%s%s", strings.Join(args, " "), text, stdout, stderr)
		}
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		f.t.Fatalf("kindred %s: %v in\n%s", strings.Join(args, " "), err, stdout)
	}
}

// join gives a host's agent its certificate.
func (f *labFleet) join(host string) {
	f.t.Helper()
	code, token, said := f.run("kindredd", "token", "create", "--host", host, "--server", "unix:"+f.file("sock"))
	if code != 0 {
		f.t.Fatalf("kindredd token create: %s", said)
	}
	f.joins(host, token, 0, "host "+host+" joined")
}

func (f *labFleet) joins(host, token string, code int, text string) {
	f.t.Helper()
	r, err := f.guests[host].Run(f.ctx, Cmd{
		Argv: []string{"kindred", "agent", "join", "--server", "https://" + f.outside(), "--token-file", "-"}, Stdin: strings.NewReader(token),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if said := string(r.Stdout) + string(r.Stderr); r.ExitCode != code || !strings.Contains(said, text) {
		f.t.Fatalf("joining %s: exit code %d, want %d and %q: %s", host, r.ExitCode, code, text, said)
	}
}

// outside is the server's address for guests.
func (f *labFleet) outside() string {
	_, port, _ := net.SplitHostPort(f.listen)
	return net.JoinHostPort(outside, port)
}

func (f *labFleet) startAgent(host string) {
	f.t.Helper()
	f.agents[host] = sh(f.ctx, f.t, f.guests[host].Client,
		"KINDRED_SERVER=https://"+f.outside()+" kindred agent --manage --verbose --poll 1s --scratch /tmp --canary-listen 0.0.0.0:"+strconv.Itoa(canaryPort)+" --canary-reach "+f.reach[host]+" >> /var/log/agent 2>&1 < /dev/null & echo $!")
}

func (f *labFleet) killAgent(host string) {
	f.t.Helper()
	pid := f.agents[host]
	sh(f.ctx, f.t, f.guests[host].Client, "kill -9 "+pid+"; while test -d /proc/"+pid+"/fd/0; do sleep 0.01; done")
}

// allow writes a host's policy.
func (f *labFleet) allow(host, policy string) {
	f.t.Helper()
	if err := f.guests[host].Put(f.ctx, "/etc/kindred/policy.yaml", 0o644, strings.NewReader(policy+"\n")); err != nil {
		f.t.Fatal(err)
	}
}

// until waits for something that must happen.
func (f *labFleet) until(what string, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

// migration is one as it is now.
func (f *labFleet) migration(id string) *api.Migration {
	f.t.Helper()
	m := new(api.Migration)
	f.asks(0, m, nil, "migration", "show", id)
	return m
}

// gets waits until a migration is in a state.
func (f *labFleet) gets(id string, state api.MigrationState) *api.Migration {
	f.t.Helper()
	var m *api.Migration
	f.until(fmt.Sprintf("migration %s is %s", id, state), func() bool {
		m = f.migration(id)
		if m.State.Over() && m.State != state {
			f.t.Fatalf("migration %s is %s, want %s: %s", id, m.State, state, m.Reason)
		}
		return m.State == state
	})
	return m
}

// has is what a host has by its own account: devices, and files that define some.
func (f *labFleet) has(host string) []string {
	f.t.Helper()
	g := f.guests[host]
	var list []string
	for _, d := range inspect(f.ctx, f.t, g).Devices {
		list = append(list, strings.Join([]string{d.ID, d.Parent, d.Type.Full(), "in use: " + string(d.InUse), weightOf(&d)}, " "))
	}
	files := sh(f.ctx, f.t, g.Client, "find /etc/mdevctl.d -type f 2>/dev/null | sort || true")
	list = append(list, strings.Fields(files)...)
	slices.Sort(list)
	return list
}

func weightOf(d *inventory.Device) string {
	data, _ := json.Marshal(d.Attributes)
	return string(data)
}

// reports waits until the server knows what a host has.
func (f *labFleet) reports(host, device string, there bool) {
	f.t.Helper()
	f.until(fmt.Sprintf("%s reports %s: %v", host, device, there), func() bool {
		code, stdout, stderr := f.run("kindred", "host", "show", host, "-o", "json")
		if code == 7 {
			return false // it has reported nothing yet
		}
		inv, err := inventory.Decode([]byte(stdout))
		if code != 0 || err != nil {
			f.t.Fatalf("kindred host show %s: exit code %d: %v: %s", host, code, err, stderr)
		}
		return (inv.Device(device) != nil) == there
	})
}
