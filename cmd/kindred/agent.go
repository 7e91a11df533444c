// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kindred/agent"
	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/internal/service"
	"kindred/trust"
)

const (
	agentCredentials = "/var/lib/kindred/agent.pem"
	agentJournal     = "/var/lib/kindred/agent.json"
)

type agentOptions struct {
	servers     []string
	credentials string
	manage      bool
	poll        time.Duration
	verbose     bool
	listen      string
	reach       string
	scratch     string
	catalogs    catalogFlags
}

func newAgent() *cobra.Command {
	opts := new(agentOptions)
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Report this host to the fleet server, and manage it where that is allowed",
		Long: `Report this host's devices to the fleet server, at once when something changes,
until it is told to stop. It outlives its servers: what they missed they are told
when they are back.

It observes: nothing on this host is changed. With --manage it makes and removes
devices for the fleet's claims and migrations, on the parents and of the types
that /etc/kindred/policy.yaml allows, and nothing else:

  manage:
    - {parent: "0000:41:00.*", type: "acme_gpu-*"}

It proves transfers by canaries, throw-away devices, when the server orders them,
where that file has canaries: rules. To be the target of some, it listens at
--canary-listen, only while one is on its way, and only for the one certificate
that the server announced.

It speaks with the server over TLS with the certificate that kindred agent join
got, and renews it. On the server's own machine it may use the server's socket.`,
		Example: `  kindred agent --server https://fleet:7443
  kindred agent --server https://fleet-1:7443,https://fleet-2:7443 --manage
  kindred agent --server https://fleet:7443 --manage --canary-listen 192.0.2.7:7480
  kindred agent --server unix:/run/kindred/server.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd, opts) },
	}
	fs := cmd.Flags()
	addServers(cmd, &opts.servers)
	fs.StringVar(&opts.credentials, "credentials", agentCredentials, "certificate and key, `FILE`")
	fs.BoolVar(&opts.manage, "manage", false, "make and remove devices as assigned, within the host's policy")
	fs.DurationVar(&opts.poll, "poll", 10*time.Second, "how often the host is read without a reason")
	fs.BoolVar(&opts.verbose, "verbose", false, "log what is carried out, not only what fails")
	fs.StringVar(&opts.listen, "canary-listen", "", "receive canaries' states at this `ADDRESS` (none)")
	fs.StringVar(&opts.reach, "canary-reach", "", "how others call that `ADDRESS` (the same)")
	fs.StringVar(&opts.scratch, "scratch", "/var/tmp", "`DIR` for canaries' states while in use")
	opts.catalogs.add(fs)
	cmd.AddCommand(newAgentJoin())
	return cmd
}

// addServers adds --server, whose default is in the environment.
func addServers(cmd *cobra.Command, servers *[]string) {
	var standard []string
	if env := os.Getenv("KINDRED_SERVER"); env != "" {
		standard = strings.Split(env, ",")
	}
	cmd.Flags().StringSliceVar(servers, "server", standard, "`ADDRESSES` of the fleet's servers ($KINDRED_SERVER)")
}

func (o *agentOptions) check(cmd *cobra.Command) error {
	if len(o.servers) == 0 {
		return usage(cmd, errors.New("--server is missing: where the fleet's server is"))
	}
	if o.poll < time.Second {
		return usage(cmd, fmt.Errorf("--poll %v: a host is read once a second at most", o.poll))
	}
	return o.checkListen(cmd)
}

// checkListen refuses an address that other hosts could not call.
func (o *agentOptions) checkListen(cmd *cobra.Command) error {
	if o.listen == "" {
		if o.reach != "" {
			return usage(cmd, errors.New("--canary-reach goes with --canary-listen"))
		}
		return nil
	}
	if !o.manage {
		return usage(cmd, errors.New("--canary-listen goes with --manage: canaries are devices"))
	}
	host, port, err := net.SplitHostPort(o.listen)
	if err != nil || port == "" {
		return usage(cmd, fmt.Errorf("--canary-listen %s is no address with a port, such as 192.0.2.7:7480", o.listen))
	}
	if at, err := netip.ParseAddr(host); o.reach == "" && (host == "" || port == "0" || err == nil && at.IsUnspecified()) {
		return usage(cmd, fmt.Errorf("--canary-listen %s does not say how other hosts call this one: give --canary-reach", o.listen))
	}
	if _, _, err := net.SplitHostPort(o.reach); o.reach != "" && err != nil {
		return usage(cmd, fmt.Errorf("--canary-reach %s is no address with a port, such as host-a.example.org:7480", o.reach))
	}
	return nil
}

// canaries is what it takes to prove transfers, nil for an agent that observes.
func (o *agentOptions) canaries() (*agent.Canaries, error) {
	if !o.manage {
		return nil, nil
	}
	known, err := o.catalogs.load()
	if err != nil {
		return nil, err
	}
	return &agent.Canaries{Engine: compat.NewEngine(known, nil), Scratch: o.scratch, Listen: o.listen, Reach: o.reach}, nil
}

// machine opens this host, to be managed or only to be observed.
func (o *agentOptions) machine() (agent.Machine, *agent.Live, func() error, error) {
	known, err := o.catalogs.load()
	if err != nil {
		return nil, nil, nil, err
	}
	if !o.manage {
		l, err := agent.Observe(known.Modules())
		if err != nil {
			return nil, nil, nil, err
		}
		return l, l, l.Close, nil
	}
	if os.Geteuid() != 0 {
		return nil, nil, nil, errors.New("--manage makes and removes devices: only root can do that")
	}
	l, err := agent.Manage(known.Modules())
	if err != nil {
		return nil, nil, nil, err
	}
	return l, l.Live, l.Close, nil
}

func runAgent(cmd *cobra.Command, opts *agentOptions) error {
	if err := opts.check(cmd); err != nil {
		return err
	}
	level := slog.LevelWarn
	if opts.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	credentials, err := opts.own()
	if err != nil {
		return err
	}
	machine, live, closeMachine, err := opts.machine()
	if err != nil {
		return err
	}
	defer closeMachine()
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &agent.Agent{Version: ownVersion(), Machine: machine, Log: log, Poll: opts.poll}
	if a.Name, err = hostName(ctx, credentials, machine); err != nil {
		return err
	}
	if a.Canaries, err = opts.canaries(); err != nil {
		return err
	}
	if opts.manage {
		if a.Journal, err = agent.OpenJournal(agentJournal); err != nil {
			return err
		}
	}
	manager := service.Of(os.Getenv)
	if manager.Watchdog > 0 {
		a.Poll = min(a.Poll, manager.Watchdog/3)
	}
	a.Ready = func() {
		if err := manager.Tell("READY=1", "WATCHDOG=1"); err != nil {
			log.Warn("tell the service manager", "err", err)
		}
	}
	var listening sync.WaitGroup
	listening.Go(func() {
		if err := live.Listen(ctx); err != nil {
			log.Warn("changes are noticed later", "err", err)
		}
	})
	defer listening.Wait()
	for err == nil && ctx.Err() == nil {
		credentials, err = opts.life(ctx, a, credentials)
	}
	return err
}

// own is the agent's certificate, nil where none is needed.
func (o *agentOptions) own() (*trust.Credentials, error) {
	for _, s := range o.servers {
		if !strings.HasPrefix(s, "https://") {
			continue
		}
		c, err := trust.ReadCredentials(o.credentials)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; join first: kindred agent join --help", err)
		}
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		return c, nil
	}
	return nil, nil
}

// hostName is the host's name: the certificate's, or as the host calls itself.
func hostName(ctx context.Context, c *trust.Credentials, m agent.Machine) (string, error) {
	if c == nil {
		inv, err := m.Inventory(ctx)
		if err != nil {
			return "", err
		}
		return inv.Host.Name, nil
	}
	who, err := c.Identity()
	if err == nil && who.Role != trust.Host {
		err = fmt.Errorf("these are the credentials of %s, and not of a host", who)
	}
	return who.Name, err
}

// life runs the agent for as long as its certificate lives, and returns the
// next one.
func (o *agentOptions) life(ctx context.Context, a *agent.Agent, c *trust.Credentials) (*trust.Credentials, error) {
	server, err := dial(o.servers, c)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	defer server.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next *trust.Credentials
	var renewing sync.WaitGroup
	if c != nil {
		renewing.Go(func() {
			defer cancel() // the agent goes on with another connection
			next, _ = agent.Renew(ctx, c, func(ctx context.Context, csr string) (*trust.Issued, error) {
				return issued(server.Rotate(ctx, &api.Rotation{CSR: csr}))
			}, func(c *trust.Credentials) error { return c.Write(o.credentials) }, a.Log)
		})
	}
	a.Fleet = server
	if a.Canaries != nil {
		a.Canaries.Credentials = c
	}
	err = a.Run(ctx)
	renewing.Wait()
	return next, err
}

// dial makes a client of the fleet's servers.
func dial(servers []string, c *trust.Credentials) (*client.Client, error) {
	if c == nil {
		return client.New(servers, nil)
	}
	return client.New(servers, trust.ClientTLS(c, time.Now))
}

// issued is what a server's answer says in the words of package trust.
func issued(j *api.Joined, err error) (*trust.Issued, error) {
	if err != nil {
		return nil, err
	}
	return &trust.Issued{Certificate: j.Certificate, Authorities: j.CA}, nil
}
