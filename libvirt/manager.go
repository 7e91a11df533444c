// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"kindred/libvirt/domain"
	"kindred/libvirt/hook"
	"kindred/vm"
)

// Manager is libvirt as a VM manager.
type Manager struct{ *Conn }

// Guests are all domains.
func (m Manager) Guests(ctx context.Context) ([]vm.Guest, error) {
	list, err := m.Domains(ctx)
	if err != nil {
		return nil, err
	}
	guests := make([]vm.Guest, 0, len(list))
	for i := range list {
		g, err := m.guest(ctx, &list[i])
		if errors.Is(err, ErrNoDomain) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		guests = append(guests, *g)
	}
	return guests, nil
}

// Guest is one domain, by its name or UUID.
func (m Manager) Guest(ctx context.Context, name string) (*vm.Guest, error) {
	d, err := m.Domain(ctx, name)
	if err != nil {
		return nil, err
	}
	return m.guest(ctx, d)
}

func (m Manager) guest(ctx context.Context, d *Domain) (*vm.Guest, error) {
	doc, err := m.Document(ctx, d)
	if err != nil {
		return nil, err
	}
	g := &vm.Guest{Name: d.Name, UUID: d.UUID, State: d.State, Devices: []vm.Device{}}
	for i := range doc.Hostdevs {
		h := &doc.Hostdevs[i]
		g.Devices = append(g.Devices, vm.Device{ID: h.Device, Mdev: h.Kind == domain.Mdev, Model: h.Model})
	}
	slices.SortFunc(g.Devices, func(a, b vm.Device) int { return strings.Compare(a.ID, b.ID) })
	return g, nil
}

// How often a migration's job is looked at, and how long libvirt may take to say
// where a domain is after one failed.
const (
	jobEvery   = 500 * time.Millisecond
	findLimit  = 30 * time.Second
	abortLimit = 2 * time.Minute
)

// Move has libvirt migrate a domain, as virsh migrate --live --p2p does: this
// libvirt speaks with the target's, and post-copy is never asked for.
func (m Manager) Move(ctx context.Context, g *vm.Guest, devices map[string]string, to vm.Target, tell func(vm.Progress)) (*vm.End, error) {
	d, err := m.Domain(ctx, g.Owner())
	if err != nil {
		return nil, &vm.Stayed{Err: err}
	}
	params, flags, err := m.params(ctx, d, devices, to)
	if err != nil {
		return nil, &vm.Stayed{Err: err}
	}
	begin := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := m.rpc.DomainMigratePerform3Params(d.rpc, rpc.OptString{to.URI}, params, nil, flags)
		done <- err
	}()
	err = m.wait(ctx, d, done, tell)
	if err != nil {
		return nil, m.failed(context.WithoutCancel(ctx), d, err)
	}
	took := time.Since(begin)
	end := &vm.End{Took: &took, Followed: true} // by the hook
	m.completed(context.WithoutCancel(ctx), d, end)
	return end, nil
}

// params are what libvirt is told of the target.
func (m Manager) params(ctx context.Context, d *Domain, devices map[string]string, to vm.Target) ([]rpc.TypedParam, rpc.DomainMigrateFlags, error) {
	flags := rpc.MigrateLive | rpc.MigratePeer2peer
	text, err := m.elsewhere(ctx, d, 0, devices)
	if err != nil {
		return nil, 0, err
	}
	params := []rpc.TypedParam{parameter(rpc.MigrateParamDestXML, text)}
	if to.Migrate != "" {
		params = append(params, parameter(rpc.MigrateParamURI, to.Migrate))
	}
	if to.Persist {
		flags |= rpc.MigratePersistDest
		// What is defined there for good has the target's devices too: libvirt itself
		// would send the source's definition as it is.
		if text, err = m.elsewhere(ctx, d, rpc.DomainXMLInactive, devices); err != nil {
			return nil, 0, err
		}
		params = append(params, parameter(rpc.MigrateParamPersistXML, text))
	}
	if to.Undefine {
		flags |= rpc.MigrateUndefineSource
	}
	return params, flags, nil
}

// elsewhere is a domain's description with other devices.
func (m Manager) elsewhere(ctx context.Context, d *Domain, flags rpc.DomainXMLFlags, devices map[string]string) (string, error) {
	text, err := m.xml(ctx, d, flags|rpc.DomainXMLMigratable|rpc.DomainXMLSecure)
	if err != nil {
		return "", err
	}
	doc, err := domain.Parse(text)
	if err == nil {
		text, err = rewrite(doc, devices)
	}
	if err != nil {
		return "", fmt.Errorf("domain %s: %w", d.Name, err)
	}
	return string(text), nil
}

func parameter(name, value string) rpc.TypedParam {
	return rpc.TypedParam{Field: name, Value: *rpc.NewTypedParamValueString(value)}
}

// wait waits for libvirt's answer, and tells meanwhile how far it is. When nobody
// wants to wait any more libvirt is asked to stop, and its answer still counts.
func (m Manager) wait(ctx context.Context, d *Domain, done <-chan error, tell func(vm.Progress)) error {
	tick := time.NewTicker(jobEvery)
	defer tick.Stop()
	stop, given := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case err := <-done:
			if refused, ok := errors.AsType[rpc.Error](err); ok {
				return &Error{"migrate " + d.Name, refused.Code, strings.TrimSpace(refused.Message)}
			}
			return err
		case <-tick.C:
			if p := m.progress(context.WithoutCancel(ctx), d); p != nil {
				tell(*p)
			}
		case <-stop:
			stop, given = nil, time.After(abortLimit)
			go func() { _ = m.rpc.DomainAbortJob(d.rpc) }() // where it is too late, the migration ends as it does
		case <-given:
			return fmt.Errorf("libvirt does not stop it: %w", ctx.Err())
		}
	}
}

// progress is how far a domain's migration is, nil where libvirt does not say.
func (m Manager) progress(ctx context.Context, d *Domain) *vm.Progress {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	n, err := m.job(ctx, d, 0)
	if err != nil || n[rpc.DomainJobDataTotal] == 0 {
		return nil
	}
	return &vm.Progress{
		Total: n[rpc.DomainJobDataTotal], Done: n[rpc.DomainJobDataProcessed], Left: n[rpc.DomainJobDataRemaining],
		Rate: n[rpc.DomainJobMemoryBps], Device: n[rpc.DomainJobVfioDataTransferred],
	}
}

// job are the numbers of a domain's job.
func (m Manager) job(ctx context.Context, d *Domain, flags rpc.DomainGetJobStatsFlags) (map[string]int64, error) {
	params, err := call(ctx, m.Conn, "job of "+d.Name, func() ([]rpc.TypedParam, error) {
		_, params, err := m.rpc.DomainGetJobStats(d.rpc, flags)
		return params, err
	})
	if err != nil {
		return nil, err
	}
	numbers := make(map[string]int64)
	for _, p := range params {
		switch v := p.Value.I.(type) {
		case uint64:
			numbers[p.Field] = int64(v)
		case int64:
			numbers[p.Field] = v
		case uint32:
			numbers[p.Field] = int64(v)
		case int32:
			numbers[p.Field] = int64(v)
		}
	}
	return numbers, nil
}

// completed adds what the job took, which libvirt knows of domains that are still
// defined on the source.
func (m Manager) completed(ctx context.Context, d *Domain, end *vm.End) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	n, err := m.job(ctx, d, rpc.DomainJobStatsCompleted)
	if err != nil {
		return
	}
	if ms, ok := n[rpc.DomainJobDowntime]; ok {
		end.Downtime = new(time.Duration(ms) * time.Millisecond)
	}
	if ms, ok := n[rpc.DomainJobTimeElapsed]; ok {
		end.Took = new(time.Duration(ms) * time.Millisecond)
	}
	if bytes, ok := n[rpc.DomainJobDataProcessed]; ok {
		end.Bytes = &bytes
	}
	if bytes, ok := n[rpc.DomainJobVfioDataTransferred]; ok {
		end.Device = &bytes
	}
}

// failed finds out where a domain is whose migration failed: it stayed if it runs
// here and has no job any more, and without an answer nothing is said.
func (m Manager) failed(ctx context.Context, d *Domain, why error) error {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	now, busy, err := m.look(ctx, d.UUID)
	for (err != nil || busy) && ctx.Err() == nil {
		if _, refused := errors.AsType[*Error](err); refused {
			break
		}
		// The daemon was restarted, maybe, and knows its domains again in a moment; or
		// it is not done yet.
		now, busy, err = again(ctx, m.uri, d.UUID)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w; and libvirt does not say where the domain is: %w", why, err)
	case busy:
		return fmt.Errorf("%w; and the migration goes on", why)
	case now.State.Live():
		return &vm.Stayed{Err: why, Rejected: hook.Rejection([]byte(why.Error()))}
	}
	return fmt.Errorf("%w; here the domain is %s now", why, now.State)
}

// look says how a domain is, and whether it has a job.
func (c *Conn) look(ctx context.Context, uuid string) (d *Domain, busy bool, err error) {
	if d, err = c.Domain(ctx, uuid); err != nil || !d.State.Live() {
		return d, false, err
	}
	kind, err := call(ctx, c, "job of "+d.Name, func() (int32, error) {
		kind, _, err := c.rpc.DomainGetJobStats(d.rpc, 0)
		return kind, err
	})
	return d, kind == int32(rpc.DomainJobBounded) || kind == int32(rpc.DomainJobUnbounded), err
}

// again looks at a domain over another connection.
func again(ctx context.Context, uri, uuid string) (*Domain, bool, error) {
	select {
	case <-time.After(jobEvery):
	case <-ctx.Done():
	}
	c, err := Dial(ctx, uri)
	if err != nil {
		return nil, false, err
	}
	defer c.Close()
	return c.look(ctx, uuid)
}
