// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/vm"
)

const (
	gpu  = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	net1 = "0000:41:02.1"
)

// monitor is a QEMU with what is asked of it here.
type monitor struct {
	mu       sync.Mutex
	status   string
	children string // of /machine/peripheral
	blocked  []string
	postcopy bool
	ends     string // how a migration ends
	why      string
	after    int    // looks until it does
	finish   func() // when it completed
	done     []string
	on       map[string]bool
}

func (q *monitor) answer(command string, args map[string]any) (any, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch command {
	case "qmp_capabilities":
	case "query-name":
		return map[string]string{"name": "desk"}, nil
	case "query-uuid":
		return map[string]string{"UUID": "4DEA22B3-1d52-d8f3-2516-782e98ab3fa0"}, nil
	case "query-status":
		return map[string]string{"status": q.status}, nil
	case "qom-list":
		if args["path"] == "/machine/peripheral" {
			return json.RawMessage(q.children), nil
		}
		return []string{}, nil
	case "qom-get":
		text, ok := map[string]string{
			"/machine/peripheral/gpu sysfsdev":  "/sys/bus/mdev/devices/" + strings.ToUpper(gpu),
			"/machine/peripheral/net sysfsdev":  "",
			"/machine/peripheral/net host":      net1,
			"/machine/peripheral/dark sysfsdev": "",
		}[fmt.Sprint(args["path"], " ", args["property"])]
		if !ok {
			return nil, errors.New("Property not found")
		}
		return text, nil
	case "query-migrate-capabilities":
		return []map[string]any{{"capability": "xbzrle", "state": true}, {"capability": "postcopy-ram", "state": q.postcopy}}, nil
	case "migrate-set-capabilities", "quit":
		q.done = append(q.done, command)
	case "migrate":
		q.done = append(q.done, command+" "+args["uri"].(string))
		if q.ends == "refused" {
			return nil, errors.New("There's a migration process in progress")
		}
		q.on = map[string]bool{"moving": true}
	case "migrate_cancel":
		q.done = append(q.done, command)
		q.ends, q.after = "cancelled", 0
	case "query-migrate":
		if !q.on["moving"] {
			return map[string]any{"blocked-reasons": q.blocked}, nil
		}
		if q.after--; q.after > 0 {
			return map[string]any{"status": "active", "ram": map[string]any{"total": 100, "transferred": 40, "remaining": 60, "mbps": 8.0}, "vfio": map[string]any{"transferred": 5}}, nil
		}
		if q.ends == "completed" && q.finish != nil {
			q.status = "postmigrate"
			q.finish()
		}
		return map[string]any{"status": q.ends, "error-desc": q.why, "total-time": 1500, "downtime": 57, "ram": map[string]any{"total": 100, "transferred": 100}}, nil
	default:
		return nil, fmt.Errorf("The command %s has not been found", command)
	}
	return struct{}{}, nil
}

// serve lets a QEMU listen.
func (q *monitor) serve(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s\r\n", `{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": ["oob"]}}`)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var in struct {
				Execute   string
				Arguments map[string]any
			}
			if json.Unmarshal(lines.Bytes(), &in) != nil {
				return
			}
			fmt.Fprintf(conn, "%s\r\n", `{"event": "STOP", "timestamp": {"seconds": 1}}`)
			out, err := q.answer(in.Execute, in.Arguments)
			reply := map[string]any{"return": out}
			if err != nil {
				reply = map[string]any{"error": map[string]string{"class": "GenericError", "desc": err.Error()}}
			}
			text, _ := json.Marshal(reply)
			fmt.Fprintf(conn, "%s\r\n", text)
		}
	}()
	return name
}

func dial(t *testing.T, q *monitor) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), q.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const both = `[{"name": "type", "type": "string"}, {"name": "gpu", "type": "child<vfio-pci>"}, {"name": "net", "type": "child<vfio-pci-nohotplug>"}, {"name": "disk", "type": "child<virtio-blk-pci>"}]`

// TestGuest: which devices a VM has, however they were named.
func TestGuest(t *testing.T) {
	g, err := dial(t, &monitor{status: "running", children: both}).Guest(t.Context())
	want := &vm.Guest{Name: "desk", UUID: "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", State: vm.Running, Devices: []vm.Device{
		{ID: net1, Model: "vfio-pci"}, {ID: gpu, Mdev: true, Model: "vfio-pci"},
	}}
	if d := cmp.Diff(want, g); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	_, err = dial(t, &monitor{status: "running", children: `[{"name": "dark", "type": "child<vfio-pci>"}]`}).Guest(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not say which") {
		t.Errorf("a device of which nothing is said: %v", err)
	}
	_, err = Manager{Conn: dial(t, &monitor{status: "running", children: "[]"})}.Guest(t.Context(), "chair")
	if !errors.Is(err, ErrNoGuest) {
		t.Errorf("another VM: %v", err)
	}
	for status, want := range map[string]vm.State{"paused": vm.Paused, "inmigrate": vm.Incoming, "postmigrate": vm.Off, "suspended": vm.Asleep, "beyond": vm.Unknown} {
		if s, err := dial(t, &monitor{status: status}).state(t.Context()); s != want || err != nil {
			t.Errorf("%s is %s, %v", status, s, err)
		}
	}
}

// TestMove: how migrations end, and what is known of the VM then.
func TestMove(t *testing.T) {
	const there = "ffb8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	one := `[{"name": "gpu", "type": "child<vfio-pci>"}]`
	moved := []string{"migrate-set-capabilities", "migrate tcp:b:1"}
	for name, c := range map[string]struct {
		source *monitor
		target *monitor // nil: it is not asked
		stop   bool

		says   string
		stayed bool
		did    []string
	}{
		"completed":            {source: &monitor{ends: "completed", after: 3}, did: moved},
		"and asked":            {source: &monitor{ends: "completed"}, target: &monitor{status: "inmigrate", children: one}, did: append(slices.Clone(moved), "quit")},
		"blocked":              {source: &monitor{blocked: []string{"no dirty tracking", "and more"}}, says: "no dirty tracking; and more", stayed: true},
		"post-copy":            {source: &monitor{postcopy: true}, says: "postcopy-ram is on", stayed: true},
		"refused":              {source: &monitor{ends: "refused"}, says: "in progress", stayed: true, did: moved},
		"failed":               {source: &monitor{ends: "failed", why: "Unable to write"}, says: "failed: Unable to write", stayed: true, did: moved},
		"stopped by its user":  {source: &monitor{ends: "completed", after: 1 << 30}, stop: true, says: "cancelled", stayed: true, did: append(slices.Clone(moved), "migrate_cancel")},
		"failed, and it stays": {source: &monitor{ends: "failed", status: "internal-error"}, says: "does not run", did: moved},
		"nobody waits there":   {source: &monitor{}, target: &monitor{status: "running", children: one}, says: "does not wait", stayed: true},
		"with other devices":   {source: &monitor{}, target: &monitor{status: "inmigrate", children: "[]"}, says: "has no device of its host", stayed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.source.status == "" {
				c.source.status = "running"
			}
			c.source.children = one
			m := Manager{Conn: dial(t, c.source)}
			devices := map[string]string{gpu: there}
			if c.target != nil {
				devices[gpu] = gpu // its name on the target, for a test
				m.Target = dial(t, c.target)
				c.source.finish = func() {
					c.target.mu.Lock()
					defer c.target.mu.Unlock()
					c.target.status = "running"
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			told := 0
			end, err := m.Move(ctx, nil, devices, vm.Target{URI: "tcp:b:1"}, func(p vm.Progress) {
				if told++; p.Done != 45 || p.Total != 105 || p.Rate != 1_000_000 {
					t.Errorf("it tells %+v", p)
				}
				if c.stop {
					cancel()
				}
			})
			_, stayed := errors.AsType[*vm.Stayed](err)
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) || stayed != c.stayed {
				t.Errorf("got %v (stayed %v), want %q (stayed %v)", err, stayed, c.says, c.stayed)
			}
			if err == nil && (*end.Downtime != 57*time.Millisecond || *end.Took != 1500*time.Millisecond) {
				t.Errorf("it took %+v", end)
			}
			c.source.mu.Lock()
			defer c.source.mu.Unlock()
			if d := cmp.Diff(c.did, c.source.done); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestSilent: a QEMU that says nothing, or what is no message, holds nobody up.
func TestSilent(t *testing.T) {
	for name, says := range map[string]string{
		"nothing":       "",
		"no greeting":   `{"return": {}}` + "\n",
		"no message":    "hello\n",
		"without end":   strings.Repeat("x", maxMessage+1),
		"and then ends": `{"QMP": {}}` + "\n",
	} {
		file := filepath.Join(t.TempDir(), "qmp")
		l, err := net.Listen("unix", file)
		if err != nil {
			t.Fatal(err)
		}
		var held net.Conn
		accepted := make(chan struct{})
		go func() {
			defer close(accepted)
			if held, err = l.Accept(); err == nil {
				fmt.Fprint(held, says)
				if name != "nothing" {
					held.Close()
				}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if name != "nothing" {
			ctx = t.Context()
		}
		if _, err := Dial(ctx, file); err == nil {
			t.Errorf("%s: it is taken for a QEMU", name)
		} else if name == "nothing" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		l.Close()
		<-accepted
	}
}
