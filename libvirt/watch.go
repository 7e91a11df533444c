// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"time"

	"kindred/libvirt/hook"
	"kindred/vm"
)

// Watch looks at single domains, over as many connections as it takes: the daemon
// may be restarted meanwhile.
type Watch struct {
	URI string

	conn    *Conn
	changed <-chan struct{}
}

// lookLimit is how long the daemon may take to say how a domain is. While it
// works on the domain it answers late.
const lookLimit = 10 * time.Second

// Look says how a domain is.
func (w *Watch) Look(ctx context.Context, uuid string) (hook.Sight, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	s, err := w.look(ctx, uuid)
	if _, refused := errors.AsType[*Error](err); err != nil && !refused {
		w.Close() // and it is dialled again
	}
	return s, err
}

func (w *Watch) look(ctx context.Context, uuid string) (hook.Sight, error) {
	if err := w.dial(ctx); err != nil {
		return hook.Sight{}, err
	}
	s, err := w.seen(ctx, uuid)
	if errors.Is(err, ErrNoDomain) {
		s, err = hook.Sight{Phase: hook.Absent}, nil
	}
	_, s.Came = w.conn.came.Load(uuid)
	return s, err
}

// seen is what the daemon says of a domain now.
func (w *Watch) seen(ctx context.Context, uuid string) (hook.Sight, error) {
	d, err := w.conn.Domain(ctx, uuid)
	if err != nil {
		return hook.Sight{}, err
	}
	s := hook.Sight{Phase: map[vm.State]hook.Phase{
		vm.Running: hook.Arrived, vm.Paused: hook.Arrived, vm.Asleep: hook.Arrived, vm.Incoming: hook.Incoming, vm.Ending: hook.Incoming, vm.Unknown: hook.Incoming, vm.Off: hook.Absent,
	}[d.State]}
	if s.Phase == hook.Absent {
		return s, nil
	}
	doc, err := w.conn.Document(ctx, d)
	if err != nil {
		return hook.Sight{}, err
	}
	s.Devices = doc.Devices()
	return s, nil
}

// Redefine puts other devices into a domain's definition, where it has one with
// those.
func (w *Watch) Redefine(ctx context.Context, uuid string, places map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if err := w.dial(ctx); err != nil {
		return err
	}
	d, err := w.conn.Domain(ctx, uuid)
	if errors.Is(err, ErrNoDomain) {
		return nil
	}
	if err == nil {
		err = w.conn.redefine(ctx, d, places)
	}
	return err
}

func (w *Watch) dial(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := Dial(ctx, w.URI)
	if err != nil {
		return err
	}
	// Without events it is looked at often enough.
	w.changed, _ = conn.Changes(ctx)
	w.conn = conn
	return nil
}

// Changed is told of changes, while there is a connection.
func (w *Watch) Changed() <-chan struct{} {
	select {
	case _, open := <-w.changed:
		if open {
			now := make(chan struct{})
			close(now)
			return now
		}
		w.changed = nil // the connection ended
	default:
	}
	return w.changed
}

// Close ends the connection.
func (w *Watch) Close() {
	if w.conn != nil {
		w.conn.Close()
	}
	w.conn, w.changed = nil, nil
}
