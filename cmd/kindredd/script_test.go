// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kindredd": main})
}

// TestScripts runs the server and the command line that asks it as their users
// do. Hosts are inventories recorded from real kernels, reported by the test.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "kindred/cmd/kindred").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	recorded, err := filepath.Abs("../../demo/recorded")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RECORDED", recorded)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("KINDRED_SERVER", "unix:"+filepath.Join(env.WorkDir, "sock"))
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// listening FILE waits until a server answers on that socket.
			"listening": func(ts *testscript.TestScript, _ bool, args []string) {
				for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					c, err := net.Dial("unix", ts.MkAbs(args[0]))
					if err == nil {
						c.Close()
						return
					}
					if time.Now().After(end) {
						ts.Fatalf("nobody listens: %v", err)
					}
				}
			},
			// says FILE TEXT waits until a program that runs has written that.
			"says": func(ts *testscript.TestScript, _ bool, args []string) {
				for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					data, err := os.ReadFile(ts.MkAbs(args[0]))
					if strings.Contains(string(data), args[1]) {
						return
					}
					if time.Now().After(end) {
						ts.Fatalf("%s says %q, %v", args[0], data, err)
					}
				}
			},
			// report MODE FILE... reports inventories, once: servers here have to have
			// the patience not to take their hosts for silent.
			"report": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, name := range args[1:] {
					ts.Check(report(ts.Getenv("KINDRED_SERVER"), api.Mode(args[0]), name))
				}
			},
			// makes HOST says that the host made all that it is to make.
			"makes": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(makes(ts.Getenv("KINDRED_SERVER"), args[0]))
			},
			// transferred FROM TO TYPE FILE writes a proof, signed by nobody, of an
			// accepted transfer between two recorded hosts.
			"transferred": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeProof(args[0], args[1], args[2], ts.MkAbs(args[3])))
			},
			// exits CODE PROGRAM ARGS... wants that exit code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					text, ok := strings.CutPrefix(err.Error(), "exit status ")
					if !ok {
						ts.Fatalf("%v", err)
					}
					got, err = strconv.Atoi(text)
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			// alike ARGS... wants the same of the server and of the files it was told of.
			"alike": func(ts *testscript.TestScript, _ bool, args []string) {
				ask := func(args []string) string {
					cmd := exec.Command(filepath.Join(bin, "kindred"), args...)
					cmd.Dir = ts.MkAbs(".")
					for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "KINDRED_SERVER", "TZ"} {
						cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
					}
					out, err := cmd.Output()
					if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
						ts.Fatalf("kindred %v: %v", args, err)
					}
					return fmt.Sprintf("%sexit code %d", out, cmd.ProcessState.ExitCode())
				}
				online, offline := ask(args), ask(append(args, "--inventory", ts.Getenv("RECORDED")))
				if online != offline || strings.HasPrefix(online, "exit code") {
					ts.Fatalf("kindred %v: the server says\n%s\nthe files\n%s", args, online, offline)
				}
			},
			// mkhost NAME FILE makes the inventory of another host alike: NAME.json.
			"mkhost": func(ts *testscript.TestScript, _ bool, args []string) {
				inv, err := inventory.Decode([]byte(ts.ReadFile(args[1])))
				ts.Check(err)
				inv.Host.Name, inv.Devices = args[0], nil
				data, err := inventory.Encode(inv)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]+".json"), data, 0o644))
			},
			// id NAME FILE takes the first thing's id of a listing into a variable.
			"id": func(ts *testscript.TestScript, _ bool, args []string) {
				var list []struct{ ID string }
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &list))
				ts.Setenv(args[0], list[0].ID)
			},
			// key NAME FILE takes the first proof's key of a listing into a variable.
			"key": func(ts *testscript.TestScript, _ bool, args []string) {
				var list []struct{ Key string }
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &list))
				ts.Setenv(args[0], list[0].Key)
			},
			// word NAME FILE takes the second word of a file into a variable.
			"word": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSuffix(strings.Fields(ts.ReadFile(args[1]))[1], ":"))
			},
		},
	})
}

// writeProof writes a file with the proof of one transfer of a type.
func writeProof(from, to, typ, file string) error {
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), nil)
	if err != nil {
		return err
	}
	engine := compat.NewEngine(catalogs, nil)
	var ends []*compat.Offer
	for _, name := range []string{from, to} {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			return err
		}
		offers := engine.Offers(inv)
		ends = append(ends, offers[slices.IndexFunc(offers, func(o *compat.Offer) bool { return o.Type().Full() == typ })])
	}
	p, err := engine.About(engine.Instance(ends[0]), ends[1])
	if err != nil {
		return err
	}
	p.Grade, p.Result, p.Controls, p.Tries, p.Time, p.Detail = compat.WorkingState, compat.Accepted, true, 2, time.Now().UTC().Add(-time.Minute), "written by a test"
	data, err := (&proofs.File{Proofs: []compat.Proof{p}, Signatures: []proofs.Signature{}}).Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

func report(server string, mode api.Mode, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New([]string{server}, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	inv, err := inventory.Decode(data)
	if err != nil {
		return err
	}
	static, own := inventory.Split(inv)
	if own.Static, err = static.Digest(); err != nil {
		return err
	}
	r := &api.Report{Own: own, Version: "1 " + string(mode), Agent: "test", Mode: mode}
	_, err = c.Report(ctx, own.Host, r)
	if errors.Is(err, &api.Problem{Code: api.NeedStatic}) {
		if err = c.PutStatic(ctx, own.Static, static); err == nil {
			_, err = c.Report(ctx, own.Host, r)
		}
	}
	return err
}

var errSeen = errors.New("seen")

func makes(server, host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New([]string{server}, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Assignments(ctx, host, func(a *api.Assignments) error {
		if len(a.Assignments) == 0 {
			return nil // it is still to come
		}
		r := new(api.StatusReport)
		for _, one := range a.Assignments {
			state := map[api.Action]api.DeviceState{api.Make: api.Made, api.Release: api.Gone}[one.Do]
			r.Statuses = append(r.Statuses, api.Status{Migration: one.Migration, Step: one.Step, Source: one.Spec.Source, Device: one.Device, State: state})
		}
		return errors.Join(errSeen, c.Status(ctx, host, r))
	})
	if errors.Is(err, errSeen) && strings.Count(err.Error(), "\n") == 0 {
		return nil
	}
	return fmt.Errorf("status of %s: %w", host, err)
}
