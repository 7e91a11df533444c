// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/libvirt"
	"kindred/libvirt/domain"
	"kindred/libvirt/hook"
	"kindred/trust"
)

func newHook() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hook",
		Short:   "Be called by a VM manager",
		Example: "  kindred hook libvirt --help",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsSubcommand,
	}
	cmd.AddCommand(newHookLibvirt())
	return cmd
}

type hookOptions struct {
	config, state, credentials, connect string
	follow                              string
}

func newHookLibvirt() *cobra.Command {
	opts := new(hookOptions)
	cmd := &cobra.Command{
		Use:   "libvirt GUEST OPERATION SUBOPERATION EXTRA",
		Short: "Prepare devices for a domain that libvirt migrates to this host",
		Long: `Prepare devices for a domain that libvirt migrates to this host. libvirt calls
it as /etc/libvirt/hooks/qemu, with the domain's XML on standard input; docs/libvirt.md
says how to install it.

For a domain that comes with devices of its source host, it takes the migration
that was begun for it, or begins one, waits until this host has the devices, and
prints the domain with their addresses; nothing else in it is changed. A domain
without such devices is let through at once. When the devices cannot be had, or
not in time, the reason goes to standard error, and libvirt shows it to who
migrates; the VM runs on where it was. How the migration ended is told to the
server by a process that is left behind.

/etc/kindred/hook.yaml, which need not be there:

  deadline: 60s           # how long libvirt waits at most
  unreachable: refuse     # or pass: when no server can be asked
  servers: [https://...]  # left out: the agent's, from /etc/kindred/agent.env

Exit code: 0 let through; otherwise refused, as of kindred migration create. What
libvirt calls for beside migrations to this host is never refused.`,
		Example: "  virsh dumpxml vm1 | kindred hook libvirt -- vm1 migrate begin -",
		Args:    cobra.ArbitraryArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return runHookLibvirt(cmd, opts, args) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.config, "config", hook.ConfigFile, "the hook's configuration, `FILE`")
	fs.StringVar(&opts.state, "state", hook.MovesDir, "what was handed over, `DIR`")
	fs.StringVar(&opts.credentials, "credentials", agentCredentials, "the agent's certificate, `FILE`")
	fs.StringVarP(&opts.connect, "connect", "c", libvirt.System, "which libvirt is watched, `URI`")
	fs.StringVar(&opts.follow, "follow", "", "watch how `MIGRATION` ends, instead of being called by libvirt")
	return cmd
}

func runHookLibvirt(cmd *cobra.Command, opts *hookOptions, args []string) error {
	moves := &hook.Moves{Dir: opts.state}
	if opts.follow != "" {
		return opts.watch(cmd, moves)
	}
	if len(args) < 3 {
		return usage(cmd, errors.New("it is called as GUEST OPERATION SUBOPERATION EXTRA"))
	}
	call := &hook.Call{Guest: args[0], Operation: args[1], Suboperation: args[2]}
	in := io.LimitReader(cmd.InOrStdin(), domain.MaxSize+1)
	if !call.Incoming() {
		opts.pass(cmd, in, moves)
		return nil
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the domain of %s: %w", call.Guest, err)
	}
	// Before anything else is looked at: most domains have no such devices.
	doc, err := domain.Parse(text)
	if err != nil {
		return fmt.Errorf("domain %s: %w", call.Guest, err)
	}
	if len(doc.Hostdevs) == 0 {
		return nil
	}
	return opts.take(cmd, call, text, moves)
}

// pass is for all that is no migration to this host. libvirt does not start a
// domain when this fails, and stops one that runs when its daemon is started, so
// nothing fails here: neither a file that is wrong nor a fault of this program.
func (o *hookOptions) pass(cmd *cobra.Command, in io.Reader, moves *hook.Moves) {
	defer func() {
		if p := recover(); p != nil {
			cmd.PrintErrln("kindred: " + clean(oneLine(fmt.Sprint(p))))
		}
	}()
	_, _ = io.Copy(io.Discard, in) // libvirt writes it to whoever reads
	o.followAll(cmd, moves)
}

// take has the fleet prepare devices for a domain that comes.
func (o *hookOptions) take(cmd *cobra.Command, call *hook.Call, text []byte, moves *hook.Moves) error {
	config, err := hook.ReadConfig(o.config)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), config.Deadline)
	defer cancel()
	server, host, err := o.fleet(config)
	if err != nil {
		return err
	}
	defer server.Close()
	warn := func(err error) { cmd.PrintErrln("kindred: " + clean(oneLine(err.Error()))) }
	h := &hook.Hook{Host: host, Fleet: server, Unreachable: config.Unreachable, Moves: moves, Warn: warn, Follow: o.leave}
	out, err := h.Take(ctx, text)
	if err != nil {
		return fmt.Errorf("%s cannot come to %s: %w", call.Guest, host, briefly(err))
	}
	cmd.Print(string(out))
	return nil
}

// briefly is a refusal with each reason once: libvirt prints it behind a long line
// of its own.
func briefly(err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	code := exitFailed
	if exit, ok := errors.AsType[*exitError](refusal(err)); ok {
		code = exit.code
	}
	if len(p.Reasons) == 0 {
		return &exitError{code, fmt.Errorf("%s: %w", p.Code, err)} // with what was said around it
	}
	said := make(map[api.Cause]bool)
	subjects := make(map[string]bool)
	var list []api.Cause
	for _, r := range p.Reasons {
		if key := (api.Cause{Subject: r.Subject, Code: r.Code}); !said[key] {
			said[key], subjects[r.Subject] = true, true
			list = append(list, r)
		}
	}
	var texts []string
	for _, r := range list {
		if len(subjects) == 1 {
			r.Subject = ""
		}
		texts = append(texts, (&api.Problem{Reasons: []api.Cause{r}}).Error()[len("; "):])
	}
	return &exitError{code, fmt.Errorf("%s: %s", p.Code, strings.Join(texts, "; "))}
}

// fleet is the server, and this host's name there: the agent's, by which the hook
// speaks.
func (o *hookOptions) fleet(config *hook.Config) (*client.Client, string, error) {
	servers := config.Servers
	if len(servers) == 0 {
		var err error
		if servers, err = agentServers(); err != nil {
			return nil, "", err
		}
	}
	own, err := (&agentOptions{servers: servers, credentials: o.credentials}).own()
	if err != nil {
		return nil, "", err
	}
	var host string
	if own == nil {
		host, err = os.Hostname()
	} else {
		var who trust.Identity
		who, err = own.Identity()
		host = who.Name
	}
	if err != nil {
		return nil, "", err
	}
	c, err := dial(servers, own)
	return c, host, err
}

// agentEnvironment is the file that systemd gives the agent.
const agentEnvironment = "/etc/kindred/agent.env"

// agentServers are the servers that the environment names, or the agent's.
func agentServers() ([]string, error) {
	if env := os.Getenv(serverVariable); env != "" {
		return strings.Split(env, ","), nil
	}
	f, err := os.Open(agentEnvironment)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no server is known: name it as servers in %s, or as %s in %s", hook.ConfigFile, serverVariable, agentEnvironment)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), serverVariable+"="); ok {
			return strings.Split(strings.Trim(value, `"'`), ","), nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s does not set %s", agentEnvironment, serverVariable), lines.Err())
}

// forgetAfter is how long after a move's deadline it is not looked at any more: its
// end was told, or the fleet found it out long ago.
const forgetAfter = 24 * time.Hour

// followAll leaves a follower for each move that has none: its follower, or the
// whole machine, was stopped.
func (o *hookOptions) followAll(cmd *cobra.Command, moves *hook.Moves) {
	list, err := moves.List()
	for _, m := range list {
		_, release, held := moves.Hold(m.Migration)
		if held != nil {
			continue // it is followed, or over
		}
		if time.Since(m.Deadline) > forgetAfter {
			err = errors.Join(err, moves.Remove(m))
			release()
			continue
		}
		release()
		err = errors.Join(err, o.leave(m))
	}
	if err != nil {
		cmd.PrintErrln("kindred: " + clean(oneLine(err.Error())))
	}
}

// leave starts a follower that outlives the hook, and libvirt's daemon: libvirt
// waits until nobody has the hook's output open any more.
func (o *hookOptions) leave(m *hook.Move) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile((&hook.Moves{Dir: o.state}).LogFile(m.Migration), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(self, "hook", "libvirt", "--follow", m.Migration,
		"--config", o.config, "--state", o.state, "--credentials", o.credentials, "--connect", o.connect)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// watch is the follower.
func (o *hookOptions) watch(cmd *cobra.Command, moves *hook.Moves) error {
	config, err := hook.ReadConfig(o.config)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	move, release, err := moves.Hold(o.follow)
	if errors.Is(err, hook.ErrFollowed) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	server, _, err := o.fleet(config)
	if err != nil {
		return err
	}
	defer server.Close()
	domains := &libvirt.Watch{URI: o.connect}
	defer domains.Close()
	f := &hook.Follower{Fleet: server, Domains: domains, Moves: moves, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), ReadLog: hook.ReadLog}
	if err := f.Run(cmd.Context(), move); err != nil {
		return err
	}
	return moves.Remove(move)
}
