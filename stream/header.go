// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"kindred/inventory"
)

// Schema names the shape of the header.
const Schema = "kindred.stream/v1"

// Header says what the state is of.
type Header struct {
	Made time.Time // UTC
	By   string    // the version of Kindred that wrote it
	// Inventory is an extract for the one device whose state this is (see
	// inventory's Extract), as it was when the state was taken. It is judged
	// as any inventory is. Its origin is the stream's: a state that a
	// simulated device gave says so.
	Inventory *inventory.Inventory
}

// Device is the device whose state this is.
func (h *Header) Device() *inventory.Device { return &h.Inventory.Devices[0] }

// Simulated reports whether no kernel gave the state.
func (h *Header) Simulated() bool { return h.Inventory.Origin == inventory.FromSimulator }

// headerJSON is the header as it is written.
type headerJSON struct {
	Schema    string          `json:"schema"`
	Made      time.Time       `json:"made"`
	By        string          `json:"by"`
	Inventory json.RawMessage `json:"inventory"`
}

// check refuses a header that names no device, or more than one.
func (h *Header) check() error {
	switch {
	case h.Inventory == nil:
		return errors.New("the header has no inventory")
	case h.By == "":
		return errors.New("the header does not say by which version it was written")
	case h.Made.IsZero():
		return errors.New("the header does not say when it was written")
	case len(h.Inventory.Devices) != 1 || len(h.Inventory.Parents) != 1:
		return fmt.Errorf("the header's inventory has %d devices and %d parents: it has to be an extract for one device", len(h.Inventory.Devices), len(h.Inventory.Parents))
	case h.Inventory.Origin == inventory.FromTree:
		return errors.New("the header's inventory was read from a copy of a host, where no device has a state")
	}
	return nil
}

func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	inv, err := inventory.Encode(h.Inventory)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, inv); err != nil {
		return nil, err
	}
	data, err := json.Marshal(headerJSON{Schema, h.Made.UTC(), h.By, compact.Bytes()})
	if err == nil && len(data) > MaxFrame {
		err = fmt.Errorf("the header has %d bytes, more than %d", len(data), MaxFrame)
	}
	return data, err
}

// decodeHeader is encode's reverse. A schema that this program does not know
// is told by its kind, not as a corruption.
func decodeHeader(data []byte) (*Header, Kind, error) {
	var schemas struct {
		Schema    string `json:"schema"`
		Inventory struct {
			Schema string `json:"schema"`
		} `json:"inventory"`
	}
	if err := json.Unmarshal(data, &schemas); err != nil {
		return nil, Corrupt, err
	}
	if schemas.Schema != Schema || schemas.Inventory.Schema != inventory.Schema {
		return nil, TooNew, fmt.Errorf("its header is %q with %q, this program reads %q with %q", schemas.Schema, schemas.Inventory.Schema, Schema, inventory.Schema)
	}
	var raw headerJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return nil, Corrupt, err
	}
	inv, err := inventory.Decode(raw.Inventory)
	if err != nil {
		return nil, Corrupt, err
	}
	h := &Header{raw.Made, raw.By, inv}
	if err := h.check(); err != nil {
		return nil, Corrupt, err
	}
	return h, "", nil
}
