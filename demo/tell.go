// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"kindred/api"
	"kindred/fleet"
	"kindred/sim/hosts"
)

// tell shows the main job step by step, and checks each. The error is what did
// not work.
func (s *site) tell(ctx context.Context) error {
	say("These hosts are simulated: their kernels and the VM manager do not exist. The")
	fmt.Println("agents, the server with its etcd, every answer and the state that moves are real.")
	fmt.Println("For real kernels with real devices: make lab")
	fmt.Println()
	for _, f := range machines {
		fmt.Printf("  %-8s %s\n", f.name, f.about)
	}
	say("This server runs, with an etcd of its own, and each host's agent reports to it:")
	fmt.Printf("\n$ %s %s\n", filepath.Join(s.opts.bin, "kindredd"), strings.Join(s.serve(), " "))
	fmt.Printf("$ export KINDRED_SERVER=unix:%s\n", s.opts.socket())

	t := &teller{site: s, ctx: ctx}
	t.kindred(0, "host", "list")
	t.say("A guest on old-1 has the device %s.\nWhere can it go, and why not elsewhere?", s.device)
	t.kindred(0, "targets", short(s.device))
	t.groups(s.device, map[string]fleet.Group{"old-2": ready, "new-1": ready, "new-2": ready, "next-1": unsettled, "other-1": notAllowed})
	t.say("new-1 is ready although it is another generation: it offers the old type too. Nobody\nknows about next-1. Canaries, throw-away devices, settle that: the server orders them,\nand the state goes from agent to agent:")
	t.kindred(0, "prove", "--type", oldType.Full(), "--from", "old-1", "--to", "next-1")
	t.kindred(0, "targets", short(s.device))
	t.groups(s.device, map[string]fleet.Group{"next-1": ready, "other-1": notAllowed})

	t.say("Hold room on new-1. A claim ends by itself unless it is renewed or used:")
	out := t.kindred(0, "claim", "create", short(s.device), "--target", "new-1", "--owner", guest)
	claim := word(out, 1)
	t.say("Have new-1 make the device, as the old type:")
	out = t.kindred(0, "migration", "create", "--claim", claim, "--wait", "20s")
	migration := word(out, 1)
	t.say("The VM manager takes the device, moves its state while the guest's work counts, and\nsays that the guest runs on new-1. Then the source is removed:")
	t.demo("move", migration)
	t.over(migration)
	t.kindred(0, "migration", "show", migration)
	t.demo("guests")
	t.kindred(0, "host", "list")

	t.say("What cannot work is refused before anything is made, with the reason:")
	if _, ids, err := s.vms.On(guest); err == nil && len(ids) == 1 {
		t.kindred(4, "claim", "create", short(ids[0]), "--target", "other-1")
	}
	if ctx.Err() == nil && t.err == nil {
		t.say("All of it worked.")
	}
	return t.err
}

const (
	ready      = fleet.Ready
	unsettled  = fleet.Unsettled
	notAllowed = fleet.NotAllowed
)

// teller runs steps until one of them is not as it should be.
type teller struct {
	*site
	ctx context.Context
	err error
}

// say says what the next step is for.
func (t *teller) say(format string, args ...any) {
	if t.err == nil && t.ctx.Err() == nil {
		say(format, args...)
	}
}

func say(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

// short is the beginning of an id, as people type it.
func short(id string) string { return id[:8] }

// word is the n-th word of a text, without what ends it.
func word(text string, n int) string {
	if words := strings.Fields(text); len(words) > n {
		return strings.TrimRight(words[n], ":,")
	}
	return ""
}

func (t *teller) kindred(code int, args ...string) string { return t.run(code, "kindred", args...) }

// demo runs one of this program's own commands.
func (t *teller) demo(args ...string) {
	if t.opts.dir != place() {
		args = append(args, "--dir", t.opts.dir)
	}
	t.run(0, "kindred-demo", args...)
}

// run shows a command, runs it and checks how it ended.
func (t *teller) run(code int, program string, args ...string) string {
	if t.err != nil || t.ctx.Err() != nil {
		return ""
	}
	line := filepath.Join(t.opts.bin, program) + " " + strings.Join(args, " ")
	fmt.Printf("\n$ %s\n\n", line)
	cmd := exec.CommandContext(t.ctx, filepath.Join(t.opts.bin, program), args...)
	cmd.Env = append(os.Environ(), "KINDRED_SERVER=unix:"+t.opts.socket())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	err := cmd.Run()
	fmt.Print(out.String())
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
		t.err = err
	} else if got := cmd.ProcessState.ExitCode(); got != code && t.ctx.Err() == nil {
		t.err = fmt.Errorf("this ended with exit code %d, and should have with %d: %s", got, code, line)
	}
	return out.String()
}

// groups checks in which group hosts are.
func (t *teller) groups(device string, want map[string]fleet.Group) {
	if t.err != nil || t.ctx.Err() != nil {
		return
	}
	answer, err := t.client.Targets(t.ctx, &api.TargetsRequest{Device: device})
	if err != nil {
		t.err = err
		return
	}
	for _, h := range answer.Hosts {
		if group, ok := want[h.Host]; ok && group != h.Group {
			text, _ := json.Marshal(h)
			t.err = fmt.Errorf("%s is %s, and should be %s: %s", h.Host, h.Group, group, text)
		}
	}
}

// over waits until a migration is over, and checks that the target has the
// device and the source does not.
func (t *teller) over(id string) {
	if t.err != nil || t.ctx.Err() != nil {
		return
	}
	m, err := hosts.Await(t.ctx, t.client, id, api.MigrationState.Over)
	if err == nil && m.State != api.Completed {
		err = fmt.Errorf("migration %s is %s: %s", id, m.State, m.Reason)
	}
	if err == nil {
		err = t.until(t.ctx, "the source is clear and the target has the device", func() bool {
			from, err1 := t.client.Host(t.ctx, m.Source)
			to, err2 := t.client.Host(t.ctx, m.Target)
			return err1 == nil && err2 == nil && from.Devices == 0 && to.Devices == 1
		})
	}
	t.err = err
}

func explore(o *options) string {
	bin := func(args string) string { return "  " + filepath.Join(o.bin, args) + "\n" }
	return "\nThe fleet stays up until Ctrl-C. In another terminal, in this directory:\n\n" +
		"  export KINDRED_SERVER=unix:" + o.socket() + "\n" +
		bin("kindred host show new-1") + bin("kindred matrix") + bin("kindred events") +
		bin("kindred migration list --all") + bin("kindred proof list") + bin("kindred-demo guests") +
		"\nWith real kernels and devices: make lab\n"
}
