// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kindred/vm"
)

// Manager is one QEMU as a VM manager.
type Manager struct {
	*Conn
	// Target is the QEMU that the VM goes to; nil: it is not asked.
	Target *Conn
}

// Guests is the one VM.
func (m Manager) Guests(ctx context.Context) ([]vm.Guest, error) {
	g, err := m.Conn.Guest(ctx)
	if err != nil {
		return nil, err
	}
	return []vm.Guest{*g}, nil
}

// Guest is the one VM, if it is called so.
func (m Manager) Guest(ctx context.Context, name string) (*vm.Guest, error) {
	g, err := m.Conn.Guest(ctx)
	if err == nil && name != g.Name && name != g.UUID {
		err = fmt.Errorf("VM %s: %w, %s", name, ErrNoGuest, g.Name)
	}
	return g, err
}

// Close ends both connections.
func (m Manager) Close() {
	m.Conn.Close()
	if m.Target != nil {
		m.Target.Close()
	}
}

const (
	stepLimit  = 10 * time.Second // for one command
	lookEvery  = 200 * time.Millisecond
	startLimit = 30 * time.Second // for the target to run, when it has the state
)

// report is what query-migrate says (qapi/migration.json, MigrationInfo).
type report struct {
	Status  string   `json:"status"`
	Error   string   `json:"error-desc"`
	Blocked []string `json:"blocked-reasons"`
	Took    *int64   `json:"total-time"` // ms
	Down    *int64   `json:"downtime"`
	RAM     struct {
		Total       int64   `json:"total"`
		Transferred int64   `json:"transferred"`
		Remaining   int64   `json:"remaining"`
		Mbps        float64 `json:"mbps"`
	} `json:"ram"`
	VFIO *struct {
		Transferred int64 `json:"transferred"`
	} `json:"vfio"`
}

// Move has QEMU send the VM to where the target's listens.
func (m Manager) Move(ctx context.Context, g *vm.Guest, devices map[string]string, to vm.Target, tell func(vm.Progress)) (*vm.End, error) {
	if err := m.ready(ctx, devices); err != nil {
		return nil, &vm.Stayed{Err: err}
	}
	if err := m.step(ctx, "migrate", map[string]any{"uri": to.URI}, nil); err != nil {
		if _, refused := errors.AsType[*Error](err); refused {
			err = &vm.Stayed{Err: err}
		}
		return nil, err
	}
	last, err := m.watch(ctx, tell)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if last.Status != "completed" {
		return nil, m.failed(ctx, last)
	}
	if err := m.arrived(ctx); err != nil {
		return nil, err
	}
	end := &vm.End{Bytes: &last.RAM.Transferred, Open: m.Target == nil}
	if last.Took != nil {
		end.Took = new(time.Duration(*last.Took) * time.Millisecond)
	}
	if last.Down != nil {
		end.Downtime = new(time.Duration(*last.Down) * time.Millisecond)
	}
	if last.VFIO != nil {
		end.Device = &last.VFIO.Transferred
	}
	return end, nil
}

func (m Manager) step(ctx context.Context, command string, arguments, into any) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	return m.Execute(ctx, command, arguments, into)
}

// ready refuses what would fail, before anything is begun.
func (m Manager) ready(ctx context.Context, devices map[string]string) error {
	var r report
	if err := m.step(ctx, "query-migrate", nil, &r); err != nil {
		return err
	}
	if len(r.Blocked) > 0 {
		return fmt.Errorf("QEMU: %s", strings.Join(r.Blocked, "; "))
	}
	var capabilities []struct {
		Name string `json:"capability"`
		On   bool   `json:"state"`
	}
	if err := m.step(ctx, "query-migrate-capabilities", nil, &capabilities); err != nil {
		return err
	}
	for _, c := range capabilities {
		if strings.HasPrefix(c.Name, "postcopy-") && c.On && c.Name != "postcopy-blocktime" {
			return fmt.Errorf("%s is on: VFIO devices cannot go by post-copy", c.Name)
		}
	}
	if m.Target != nil {
		if err := m.waits(ctx, devices); err != nil {
			return err
		}
	}
	// By the return path the target says that it took all; without it, that all was
	// sent is all that the source would know.
	on := []map[string]any{{"capability": "return-path", "state": true}}
	return m.step(ctx, "migrate-set-capabilities", map[string]any{"capabilities": on}, nil)
}

// waits looks whether the target's QEMU waits for this VM.
func (m Manager) waits(ctx context.Context, devices map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	g, err := m.Target.Guest(ctx)
	if err != nil {
		return fmt.Errorf("the target's QEMU: %w", err)
	}
	prepared := slices.Sorted(maps.Values(devices))
	switch {
	case g.State != vm.Incoming:
		return fmt.Errorf("the target's QEMU is %s, and does not wait for a migration: start it with -incoming", g.State)
	case !slices.Equal(g.IDs(), prepared):
		return fmt.Errorf("the target's QEMU has %s, and prepared was %s", listed(g.IDs()), listed(prepared))
	}
	return nil
}

func listed(ids []string) string {
	if len(ids) == 0 {
		return "no device of its host"
	}
	return strings.Join(ids, ", ")
}

// watch waits for the migration's end, and tells how far it is. When nobody wants
// to wait any more it is cancelled, and how it ends still counts.
func (m Manager) watch(ctx context.Context, tell func(vm.Progress)) (*report, error) {
	stop, on := ctx.Done(), context.WithoutCancel(ctx)
	for {
		select {
		case <-stop:
			stop = nil
			if err := m.step(on, "migrate_cancel", nil, nil); err != nil {
				return nil, err
			}
		case <-time.After(lookEvery):
		}
		r := new(report)
		if err := m.step(on, "query-migrate", nil, r); err != nil {
			return nil, fmt.Errorf("QEMU does not say how the migration goes: %w", err)
		}
		switch r.Status {
		case "completed", "failed", "cancelled":
			return r, nil
		}
		p := vm.Progress{Total: r.RAM.Total, Done: r.RAM.Transferred, Left: r.RAM.Remaining, Rate: int64(r.RAM.Mbps * 1e6 / 8)}
		if r.VFIO != nil {
			p.Device = r.VFIO.Transferred
			p.Done += p.Device
			p.Total += p.Device
		}
		if p.Total > 0 {
			tell(p)
		}
	}
}

// failed finds out where the VM is after a migration that did not complete.
func (m Manager) failed(ctx context.Context, r *report) error {
	why := errors.New("the migration " + r.Status)
	if r.Error != "" {
		why = fmt.Errorf("%w: %s", why, r.Error)
	}
	for end := time.Now().Add(startLimit); ; {
		state, err := m.state(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("%w; and QEMU does not say how the VM is: %w", why, err)
		case state.Live():
			return &vm.Stayed{Err: why}
		case state != vm.Incoming || time.Now().After(end): // on its way back
			return fmt.Errorf("%w; the VM is %s now, and does not run", why, state)
		}
		time.Sleep(lookEvery)
	}
}

// arrived waits until the VM runs on the target, where that can be asked, and then
// ends the source's QEMU, which still has the devices open.
func (m Manager) arrived(ctx context.Context) error {
	if m.Target == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		state, err := m.Target.state(ctx)
		if err != nil {
			return fmt.Errorf("the state was sent, and the target's QEMU does not say how the VM is: %w", err)
		}
		if state.Live() {
			break
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return fmt.Errorf("the state was sent, and the VM is %s on the target", state)
		}
	}
	// It may end before it answers. If it does not end, its agent sees the devices
	// in use, and they stay.
	_ = m.step(ctx, "quit", nil, nil)
	return nil
}
