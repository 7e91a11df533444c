// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"slices"
	"time"

	"kindred/api"
)

// State is how a VM is.
type State string

const (
	Running  State = "running"
	Paused   State = "paused"   // by its user, or for an error
	Incoming State = "incoming" // it waits for the state that a migration brings
	Ending   State = "ending"
	Off      State = "off"
	Asleep   State = "asleep" // suspended by its guest
	Unknown  State = "unknown"
)

// Live reports whether there is a state to be moved.
func (s State) Live() bool { return s == Running || s == Paused || s == Asleep }

// Guest is a VM on this host, with the host's devices that it has.
type Guest struct {
	Name    string   `json:"name"`
	UUID    string   `json:"uuid,omitempty"`
	State   State    `json:"state"`
	Devices []Device `json:"devices"`
}

// Device is one of the host's devices.
type Device struct {
	ID    string `json:"id"` // a UUID in lower case, or the address of a function
	Mdev  bool   `json:"mdev"`
	Model string `json:"model,omitempty"` // vfio-pci, vfio-ccw, vfio-ap
}

// IDs are the devices' names, sorted.
func (g *Guest) IDs() []string {
	ids := make([]string, 0, len(g.Devices))
	for _, d := range g.Devices {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// Owner is the name that claims for the VM bear.
func (g *Guest) Owner() string {
	if g.UUID != "" {
		return g.UUID
	}
	return g.Name
}

// Manager runs VMs on this host.
type Manager interface {
	// Guests are all VMs, by name; Guest one of them, by its name or UUID.
	Guests(ctx context.Context) ([]Guest, error)
	Guest(ctx context.Context, name string) (*Guest, error)
	// Move has a VM's state go to the target, where devices have other names, and
	// returns when the VM runs there. An error is one of [*Stayed], or leaves open
	// where it runs. When the context ends the VM is to stay.
	Move(ctx context.Context, g *Guest, devices map[string]string, to Target, tell func(Progress)) (*End, error)
	Close()
}

// Target says where a VM goes, in the words of its manager.
type Target struct {
	URI     string // of the manager there, or where QEMU listens
	Migrate string // the address that the state goes to, where it is not found by itself
	// Persist defines it on the target for good, Undefine removes its definition
	// on the source.
	Persist, Undefine bool
}

// Stayed is a move that came to nothing: the VM runs on the source.
type Stayed struct {
	Err error
	// Rejected is the error with which a driver refused the state on the target;
	// empty: it was something else, or that is not known.
	Rejected string
}

func (s *Stayed) Error() string { return s.Err.Error() }
func (s *Stayed) Unwrap() error { return s.Err }

// Progress is how far a move is.
type Progress struct {
	Total, Done, Left int64 // bytes; Total grows while the guest writes
	Rate              int64 // bytes a second; 0: not known
	Device            int64 // of Done, state of devices; 0: none, or not told
}

// End is what a move took; nil where it was not told.
type End struct {
	Took     *time.Duration `json:"took,omitempty"`
	Downtime *time.Duration `json:"downtime,omitempty"`
	Bytes    *int64         `json:"bytes,omitempty"`
	Device   *int64         `json:"device_bytes,omitempty"`
	// Open says that the source's manager keeps the devices open until somebody
	// ends it: the source cannot be cleared before.
	Open bool `json:"source_open,omitempty"`
	// Followed says that on the target somebody may watch the VM, who knows better
	// how the move ended.
	Followed bool `json:"-"`
}

// Fleet is the server, as a client asks it.
type Fleet interface {
	Migrations(ctx context.Context, all bool) ([]api.Migration, error)
	Claims(ctx context.Context, all bool) ([]api.Claim, error)
	CreateMigration(ctx context.Context, key string, r *api.MigrationRequest) (*api.Migration, error)
	Migration(ctx context.Context, id string) (*api.Migration, error)
	HandOver(ctx context.Context, id string) (*api.Migration, error)
	CompleteWith(ctx context.Context, id string, with *api.Completion) (*api.Migration, error)
	Abort(ctx context.Context, id string, a *api.Abort) (*api.Migration, error)
}
