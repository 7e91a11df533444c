// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// MovesDir is where the host keeps what it was handed over, until it is known how
// that ended.
const MovesDir = "/var/lib/kindred/moves"

// Move is a domain on its way to this host.
type Move struct {
	Migration string   `json:"migration"`
	Domain    string   `json:"domain"` // its UUID
	Name      string   `json:"name"`
	Devices   []string `json:"devices"` // on this host, sorted
	// Places are the source's devices with those that the hook put in their place.
	Places   map[string]string `json:"places,omitempty"`
	Began    time.Time         `json:"began"`
	Arrived  time.Time         `json:"arrived,omitzero"` // when the domain was seen to run here
	Deadline time.Time         `json:"deadline"`
	// Log is how long QEMU's log of the domain was: what it says of this move
	// stands behind.
	Log int64 `json:"log"`
}

// Moves is a directory with a file for each move.
type Moves struct{ Dir string }

func (s *Moves) file(migration string) string { return filepath.Join(s.Dir, migration+".json") }

// lock is the file that a follower holds: the move's own is replaced when the hook
// is called for the same migration again.
func (s *Moves) lock(migration string) string { return filepath.Join(s.Dir, migration+".lock") }

// LogFile is where a move's follower writes what hinders it.
func (s *Moves) LogFile(migration string) string { return filepath.Join(s.Dir, migration+".log") }

// Write puts a move on the disk.
func (s *Moves) Write(m *Move) error {
	data, err := json.Marshal(m)
	if err == nil && (m.Migration == "" || strings.Trim(m.Migration, "abcdefghijklmnopqrstuvwxyz0123456789") != "") {
		err = fmt.Errorf("%q is no name of a migration", m.Migration)
	}
	if err == nil {
		err = os.MkdirAll(s.Dir, 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(s.file(m.Migration), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note that migration %s begins: %w", m.Migration, err)
	}
	return nil
}

// Remove forgets a move that is over.
func (s *Moves) Remove(m *Move) error {
	for _, name := range []string{s.file(m.Migration), s.LogFile(m.Migration), s.lock(m.Migration)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget migration %s: %w", m.Migration, err)
		}
	}
	return nil
}

// List is every move that nobody said the end of, in no order.
func (s *Moves) List() (list []*Move, err error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		m, failed := s.read(id)
		switch {
		case failed == nil:
			list = append(list, m)
		case !errors.Is(failed, fs.ErrNotExist):
			err = errors.Join(err, failed)
		}
	}
	return list, err
}

func (s *Moves) read(migration string) (*Move, error) {
	data, err := os.ReadFile(s.file(migration))
	if err != nil {
		return nil, err
	}
	m := new(Move)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w", s.file(migration), err)
	}
	if m.Migration != migration {
		return nil, fmt.Errorf("%s is about migration %q", s.file(migration), m.Migration)
	}
	return m, nil
}

// ErrFollowed is returned for a move that has a follower.
var ErrFollowed = errors.New("it is followed already")

// Hold makes the caller a move's one follower, until release is called or the
// process ends.
func (s *Moves) Hold(migration string) (m *Move, release func(), err error) {
	if _, err := os.Stat(s.file(migration)); err != nil {
		return nil, nil, fmt.Errorf("follow migration %s: %w", migration, err)
	}
	f, err := os.OpenFile(s.lock(migration), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("follow migration %s: %w", migration, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrFollowed
	}
	if err == nil {
		m, err = s.read(migration)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("follow migration %s: %w", migration, err)
	}
	return m, func() { f.Close() }, nil
}
