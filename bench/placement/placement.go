// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package placement runs OpenStack's Placement from Debian's packages over a
// fleet that does not exist, to be measured beside Kindred on the same fleet.
//
// Placement knows resource providers with inventories of resource classes, and
// traits. A fleet is put into it as Nova does with mediated devices: a provider
// for each host, below it one for each parent, which has as many of a class for
// each of its types as the parent would create now. A parent has a trait for its
// host's make, since Placement knows of no driver's builds: which makes a device
// is compatible with has to be asked of somebody else, and goes into the question
// as a list of traits. That types share a parent's units it is not told; for one
// device that makes no difference.
//
// The fleet is written into its database, an SQLite file, by SQL: through its API
// a thousand hosts take minutes. Questions go through its API, to gunicorn with
// as many workers as there are cores, on the loopback address.
package placement

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kindred/bench/fleets"
)

// python is the system's: another one that comes first in PATH has no Placement.
const python = "/usr/bin/python3"

// programs are what has to be there, and in which package it is.
var programs = map[string]string{"/usr/bin/placement-manage": "python3-placement", "/usr/bin/gunicorn": "gunicorn"}

// Install installs what is missing, as root on Debian.
func Install(ctx context.Context) error {
	var missing []string
	for file, name := range programs {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: not installed; run this as root on Debian, or install it", strings.Join(missing, ", "))
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, missing...)} {
		apt := exec.CommandContext(ctx, "apt-get", args...)
		apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := apt.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// Version is that of the package.
func Version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", "python3-placement").Output()
	if err != nil {
		return "of unknown version"
	}
	return string(out)
}

const config = `[api]
auth_strategy = noauth2
[placement]
randomize_allocation_candidates = False
[placement_database]
connection = sqlite:///%s
sync_on_startup = False
`

// first is what Placement does when it starts, which is to put its own traits and
// classes into a database that has none yet. Of workers that do so at once one is
// locked out of the file, and gunicorn ends them all.
const first = "from placement.wsgi import init_application; init_application()"

// Prepare makes an empty database in a directory, to be copied for each fleet.
func Prepare(ctx context.Context, dir string) error {
	if err := configure(dir); err != nil {
		return err
	}
	for _, args := range [][]string{{"/usr/bin/placement-manage", "--config-file", filepath.Join(dir, "placement.conf"), "db", "sync"}, {"-c", first}} {
		step := exec.CommandContext(ctx, python, args...)
		step.Env = append(os.Environ(), "OS_PLACEMENT_CONFIG_DIR="+dir)
		if out, err := step.CombinedOutput(); err != nil {
			return fmt.Errorf("make Placement's database: %w: %s", err, out)
		}
	}
	return nil
}

func configure(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "placement.conf"), fmt.Appendf(nil, config, database(dir)), 0o644)
}

func database(dir string) string { return filepath.Join(dir, "placement.sqlite") }

// Service is a Placement that runs.
type Service struct {
	address string
	command *exec.Cmd
	ended   chan error
	http    *http.Client
}

// Start puts a fleet into a copy of an empty database, and serves it.
func Start(ctx context.Context, empty, dir string, made *fleets.Fleet) (*Service, error) {
	if err := configure(dir); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(database(empty))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(database(dir), data, 0o644); err != nil {
		return nil, err
	}
	if err := fill(ctx, database(dir), made); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Service{address: "http://" + port, ended: make(chan error, 1), http: &http.Client{Timeout: 10 * time.Minute}}
	s.command = exec.Command(python, "-m", "gunicorn", "-b", port, "-w", strconv.Itoa(runtime.NumCPU()), "-k", "sync", "-t", "600", "--keep-alive", "60",
		"--log-level", "error", "placement.wsgi:init_application()")
	s.command.Env = append(os.Environ(), "OS_PLACEMENT_CONFIG_DIR="+dir)
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start Placement: %w", err)
	}
	go func() { s.ended <- s.command.Wait() }()
	return s, s.ready(ctx, log.Name())
}

// freePort is an address on which nobody listens at this moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port for Placement: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startWait is how long Placement may take until it answers.
const startWait = time.Minute

func (s *Service) ready(ctx context.Context, log string) error {
	for begin := time.Now(); ; {
		select {
		case err := <-s.ended:
			text, _ := os.ReadFile(log) // what is there of it
			return fmt.Errorf("start Placement: it ended: %w: %s", err, text)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Stop())
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := s.get(ctx, "/"); err == nil {
			return nil
		} else if time.Since(begin) > startWait {
			return errors.Join(fmt.Errorf("start Placement: it does not answer: %w", err), s.Stop())
		}
	}
}

// Stop ends it.
func (s *Service) Stop() error {
	s.http.CloseIdleConnections()
	_ = s.command.Process.Signal(syscall.SIGTERM) // one that ended already is what is wanted
	select {
	case <-s.ended: // how it ended says nothing
		return nil
	case <-time.After(10 * time.Second):
		return errors.Join(s.command.Process.Kill(), <-s.ended)
	}
}
