// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"

	"kindred/api"
)

// Journal is what a managing agent has to know after it was killed: the newest
// list of assignments it has seen, and for each device the newest assignment it
// began to carry out. It is one file, on the disk before the work begins.
type Journal struct {
	file string

	mu      sync.Mutex
	content journal
}

type journal struct {
	Revision int64            `json:"revision"`
	Devices  map[string]entry `json:"devices"` // by id
}

// entry is the newest assignment of one device that was carried out, or begun.
type entry struct {
	Claim  string     `json:"claim"`
	Source string     `json:"source"` // which device of the claim
	Fence  int64      `json:"fence"`
	Step   int64      `json:"step"`
	Do     api.Action `json:"do"`
	// Found is true for a function that was bound to its driver before, and
	// stays so.
	Found bool `json:"found,omitempty"`
	// Defined is true for a device of which Kindred wrote the definition.
	Defined bool `json:"defined,omitempty"`
}

// maxEntries bounds the memory of devices that are gone.
const maxEntries = 4096

// OpenJournal reads the journal, or begins one.
func OpenJournal(file string) (*Journal, error) {
	j := &Journal{file: file, content: journal{Devices: make(map[string]entry)}}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &j.content)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the agent has done, %s: %w; move it away if it is of no use", file, err)
	}
	if j.content.Devices == nil {
		j.content.Devices = make(map[string]entry)
	}
	return j, nil
}

// ErrOld is returned for a list of assignments that is older than one carried out.
var ErrOld = errors.New("they are older than what was carried out")

// see notes a list of assignments.
func (j *Journal) see(revision int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if revision < j.content.Revision {
		return fmt.Errorf("assignments of revision %d, after %d: %w", revision, j.content.Revision, ErrOld)
	}
	j.content.Revision = revision
	return nil // on the disk with the first that is carried out
}

// device is what was done last with a device.
func (j *Journal) device(id string) (entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.content.Devices[id]
	return e, ok
}

// picked is the device that was picked for a claim's device.
func (j *Journal) picked(claim, source string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, e := range j.content.Devices {
		if e.Claim == claim && e.Source == source {
			return id
		}
	}
	return ""
}

// later is what was carried out for a device later than an assignment, nil for
// nothing: then the assignment may be carried out.
func (j *Journal) later(id string, a *api.Assignment) *api.Ahead {
	was, known := j.device(id)
	if known && cmp.Or(cmp.Compare(a.Fence, was.Fence), cmp.Compare(a.Step, was.Step)) < 0 {
		return &api.Ahead{Claim: was.Claim, Fence: was.Fence, Step: was.Step, Do: was.Do}
	}
	return nil
}

// forClaims are the devices that were made for claims, with their claims.
func (j *Journal) forClaims() map[string]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	claims := make(map[string]string)
	for id, e := range j.content.Devices {
		if e.Do == api.Make {
			claims[id] = e.Claim
		}
	}
	return claims
}

// begin notes what is about to be carried out. It was admitted.
func (j *Journal) begin(id string, a *api.Assignment) error {
	was, known := j.device(id)
	next := entry{Claim: a.Claim, Source: a.Spec.Source, Fence: a.Fence, Step: a.Step, Do: a.Do, Defined: was.Defined}
	next.Found = was.Found && was.Claim == a.Claim
	if known && was == next {
		return nil
	}
	return j.note(id, next)
}

// note puts a device's entry on the disk.
func (j *Journal) note(id string, next entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	was, known := j.content.Devices[id]
	j.content.Devices[id] = next
	j.bound()
	if err := j.write(); err != nil {
		if known {
			j.content.Devices[id] = was
		} else {
			delete(j.content.Devices, id)
		}
		return err
	}
	return nil
}

// drop forgets a device that could not be made.
func (j *Journal) drop(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.content.Devices, id)
	return j.write()
}

// bound forgets the oldest entries.
func (j *Journal) bound() {
	if len(j.content.Devices) <= maxEntries {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(j.content.Devices), func(a, b string) int {
		return cmp.Compare(j.content.Devices[a].Fence, j.content.Devices[b].Fence)
	})
	for _, id := range oldest[:len(oldest)-maxEntries] {
		delete(j.content.Devices, id)
	}
}

func (j *Journal) write() error {
	data, err := json.Marshal(&j.content)
	if err != nil {
		return fmt.Errorf("note what is to be done: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(j.file), 0o755); err != nil {
		return fmt.Errorf("note what is to be done: %w", err)
	}
	if err := renameio.WriteFile(j.file, data, 0o600); err != nil {
		return fmt.Errorf("note what is to be done: %w", err)
	}
	return nil
}
