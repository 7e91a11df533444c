// SPDX-License-Identifier: Apache-2.0

package truth

// Report is what Kindred's own VFIO layer made of one device, in a guest: the
// program lab/driver/transfer prints it, and tests compare it with the table.
type Report struct {
	API     string `json:",omitempty"`
	Flags   uint64 `json:",omitempty"`
	Regions int    `json:",omitempty"`

	// Of Save and Load.
	Bytes, PreCopy int64  `json:",omitempty"`
	Initial        uint64 `json:",omitempty"`
	Said           uint64 `json:",omitempty"`
	Visible        string `json:",omitempty"` // a digest of what a guest sees, after it

	// Of a failure: of what class Open's was, or kind and step of an Error.
	Failed string `json:",omitempty"`
	Step   string `json:",omitempty"`
	At     int64  `json:",omitempty"`
	Errno  string `json:",omitempty"`
	Then   string `json:",omitempty"` // the state right after it
	Text   string `json:",omitempty"`

	State  string // at the end, before Close
	Closed string // what a second opener found
	Left   int    // descriptors that nobody closed
	Took   int64  // milliseconds
}
