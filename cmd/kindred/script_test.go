// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/internal/fixture"
	"kindred/inventory"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kindred": main, "mdevctl": main, "lsmdev": main})
}

// TestScripts runs the program as its users do. UPDATE=1 writes the outputs
// that scripts compare with.
func TestScripts(t *testing.T) {
	recorded, err := filepath.Abs("../../demo/recorded")
	if err != nil {
		t.Fatal(err)
	}
	hook, err := filepath.Abs("../../packaging/libvirt/qemu")
	if err != nil {
		t.Fatal(err)
	}
	testdata, err := filepath.Abs("../../host/testdata")
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
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// machine NAME DIR unpacks a recorded machine.
			"machine": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.Rename(fixture.Unpack(t, filepath.Join(testdata, args[0]+".tar.gz")), ts.MkAbs(args[1])))
			},
			// exits CODE ARGS... runs kindred and wants that exit code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec("kindred", args[1:]...)
				got := 0
				if err != nil {
					got = 1
					if text := err.Error(); strings.HasPrefix(text, "exit status ") {
						got, err = strconv.Atoi(strings.TrimPrefix(text, "exit status "))
						ts.Check(err)
					}
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			// big FILE BYTES makes a file of that size, with nothing in it.
			"big": func(ts *testscript.TestScript, _ bool, args []string) {
				size, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), nil, 0o644))
				ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
			},
			// printable FILE: no character a terminal could act on.
			"printable": func(ts *testscript.TestScript, _ bool, args []string) {
				text := ts.ReadFile(args[0])
				if i := strings.IndexFunc(text, func(r rune) bool { return hidden(r) || r == '\ufffd' }); i >= 0 {
					ts.Fatalf("%s has %q at %d", args[0], []rune(text[i:])[0], i)
				}
			},
			// hookscript FILE PROGRAM writes libvirt's hook as it is installed, but for the
			// program that it calls.
			"hookscript": func(ts *testscript.TestScript, _ bool, args []string) {
				text, err := os.ReadFile(hook)
				ts.Check(err)
				called := strings.ReplaceAll(string(text), "/usr/bin/kindred", args[1])
				if called == string(text) {
					ts.Fatalf("%s calls something else", hook)
				}
				// A process that another script starts at this moment would have the file
				// open until it is that program, and nobody could execute it so long.
				syscall.ForkLock.RLock()
				err = os.WriteFile(ts.MkAbs(args[0]), []byte(called), 0o755)
				syscall.ForkLock.RUnlock()
				ts.Check(err)
			},
			// transferred FROM TO TYPE RESULT FILE writes a proof, signed by nobody,
			// of a transfer between two recorded hosts.
			"transferred": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeProof(ts.MkAbs(args[0]), ts.MkAbs(args[1]), args[2], compat.Result(args[3]), ts.MkAbs(args[4])))
			},
			// narrow FILE: no line is longer than 80 columns.
			"narrow": func(ts *testscript.TestScript, _ bool, args []string) {
				for line := range strings.Lines(ts.ReadFile(args[0])) {
					if width(strings.TrimRight(line, "\n")) > 80 {
						ts.Fatalf("longer than 80 columns: %s", line)
					}
				}
			},
		},
	})
}

// TestHelp looks at every command's help: each has an example that can be
// understood alone, and every flag a text.
func TestHelp(t *testing.T) {
	for _, cmd := range everyCommand(newRoot()) {
		if strings.HasPrefix(cmd.CommandPath(), "kindred completion") || cmd.Name() == "help" {
			continue
		}
		if cmd.Short == "" || cmd.Runnable() && !cmd.HasSubCommands() && cmd.Example == "" && cmd.Name() != "version" {
			t.Errorf("%s: no short text, or no example", cmd.CommandPath())
		}
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		var out, errs bytes.Buffer
		if code := run(context.Background(), args, &out, &errs); code != exitOK || out.Len() == 0 || errs.Len() > 0 {
			t.Errorf("kindred %v: exit code %d, stderr %q", args, code, errs.String())
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 101 {
				t.Errorf("kindred %v: a line of %d characters: %s", args, len(line), line)
			}
		}
	}
}

// TestClosedPipe: a reader that went away is no failure.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	var errs bytes.Buffer
	if code := run(context.Background(), []string{"reason"}, w, &errs); code != exitOK {
		t.Errorf("exit code %d, stderr %q", code, errs.String())
	}
	if code := run(context.Background(), []string{"reason"}, failing{}, io.Discard); code != exitFailed {
		t.Errorf("a full disk: exit code %d, want %d", code, exitFailed)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrInvalid }

// writeProof writes a file with the proof of one transfer of a type.
func writeProof(from, to, typ string, result compat.Result, file string) error {
	inventories, err := readFiles([]string{from, to})
	if err != nil {
		return err
	}
	known, err := knownWith(nil)
	if err != nil {
		return err
	}
	engine := compat.NewEngine(known, nil)
	find := func(inv *inventory.Inventory) *compat.Offer {
		offers := engine.Offers(inv)
		return offers[slices.IndexFunc(offers, func(o *compat.Offer) bool { return o.Type().Full() == typ })]
	}
	p, err := engine.About(engine.Instance(find(inventories[0])), find(inventories[1]))
	if err != nil {
		return err
	}
	p.Grade, p.Result, p.Controls, p.Tries, p.Time, p.Detail = compat.WorkingState, result, true, 2, time.Unix(1_790_000_000, 0).UTC(), "written by a test"
	data, err := (&proofs.File{Proofs: []compat.Proof{p}, Signatures: []proofs.Signature{}}).Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
