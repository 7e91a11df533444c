// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nameless makes a file that never has a name (O_TMPFILE). Which errors say that
// the file system cannot is in open(2).
func nameless(dir string) (*os.File, error) {
	file, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE|os.O_EXCL, 0o600)
	if errors.Is(err, unix.EISDIR) {
		err = errors.Join(err, errors.ErrUnsupported)
	}
	return file, err
}
