// SPDX-License-Identifier: Apache-2.0

package domain

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of a document. The first is that of any text in libvirt's protocol
// (REMOTE_STRING_MAX), the second that of libxml2 (xmlParserMaxDepth).
const (
	MaxSize  = 4 << 20
	MaxDepth = 256
)

// Kind is how a device is addressed.
type Kind string

const (
	Mdev Kind = "mdev" // by UUID
	PCI  Kind = "pci"  // by the address of a function
)

// Hostdev is one of the host's devices that the domain has.
type Hostdev struct {
	Kind   Kind
	Device string // a UUID in lower case, or a function as the kernel writes it: 0000:41:02.1
	Model  string // of an mdev: vfio-pci, vfio-ccw, vfio-ap
	Driver string // of a function: vfio, kvm, xen; empty: libvirt chooses
	Line   int    // where the address is

	tag   []byte // the address element's start tag
	from  int    // where it begins in the document
	spare bool   // libvirt takes it away before the VM moves
}

// Document is a domain's XML, as it was given.
type Document struct {
	Name string
	UUID string // in lower case; empty: it has none
	// Hostdevs are those that move with the domain, in their order. One that is
	// unplugged before (teaming of type transient) is none of them.
	Hostdevs []Hostdev

	text []byte
}

// Error is what is wrong with a document, and where.
type Error struct {
	Line    int
	Problem string
}

func (e *Error) Error() string { return fmt.Sprintf("domain XML, line %d: %s", e.Line, e.Problem) }

// Parse reads a domain's XML. The text is kept, and not to be changed.
func Parse(text []byte) (*Document, error) {
	if len(text) > MaxSize {
		return nil, &Error{1, fmt.Sprintf("%d bytes: a domain has at most %d", len(text), MaxSize)}
	}
	r := &reader{doc: &Document{text: text}, dec: xml.NewDecoder(bytes.NewReader(text))}
	if err := r.read(); err != nil {
		return nil, err
	}
	return r.doc, nil
}

// Device is the domain's device with that name, nil for none.
func (d *Document) Device(name string) *Hostdev {
	i := slices.IndexFunc(d.Hostdevs, func(h Hostdev) bool { return h.Device == name })
	if i < 0 {
		return nil
	}
	return &d.Hostdevs[i]
}

// Devices are the names of all of the domain's devices, sorted.
func (d *Document) Devices() []string {
	names := make([]string, 0, len(d.Hostdevs))
	for i := range d.Hostdevs {
		names = append(names, d.Hostdevs[i].Device)
	}
	slices.Sort(names)
	return names
}

// reader walks through one document.
type reader struct {
	doc   *Document
	dec   *xml.Decoder
	path  []string        // of the element that is open; one of another namespace is "*"
	seen  map[string]bool // elements that there is one of
	known map[string]bool // devices
	dev   *Hostdev        // the device element that is open
	place int             // where its element is in the path
	char  *strings.Builder
}

func (r *reader) fail(format string, args ...any) error {
	line, _ := r.dec.InputPos()
	return &Error{line, fmt.Sprintf(format, args...)}
}

func (r *reader) read() error {
	r.seen, r.known = make(map[string]bool), make(map[string]bool)
	for {
		from := int(r.dec.InputOffset())
		token, err := r.dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var syntax *xml.SyntaxError
			if errors.As(err, &syntax) {
				return &Error{syntax.Line, syntax.Msg}
			}
			return r.fail("%v", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return r.fail("it has a document type: entities that are declared are not read")
		case xml.StartElement:
			if err := r.open(t, from); err != nil {
				return err
			}
		case xml.EndElement:
			if err := r.close(); err != nil {
				return err
			}
		case xml.CharData:
			if r.char != nil {
				r.char.Write(t)
			}
		}
	}
	if !r.seen["domain"] {
		return r.fail("it is no domain")
	}
	return nil
}

// at is where the element that is open stands.
func (r *reader) at() string { return strings.Join(r.path, "/") }

func (r *reader) open(e xml.StartElement, from int) error {
	name := e.Name.Local
	if e.Name.Space != "" {
		name = "*"
	}
	if len(r.path) == 0 && (name != "domain" || r.seen["domain"]) {
		return r.fail("<%s> instead of <domain>", e.Name.Local)
	}
	r.path = append(r.path, name)
	if len(r.path) > MaxDepth {
		return r.fail("more than %d elements in each other", MaxDepth)
	}
	if len(r.path) > 5 {
		return nil // nothing of ours is as deep
	}
	switch at := r.at(); at {
	case "domain":
		r.seen[at] = true
	case "domain/name", "domain/uuid":
		if r.seen[at] {
			return r.fail("it has a second <%s>", name)
		}
		r.seen[at] = true
		r.char = new(strings.Builder)
	case "domain/devices/hostdev", "domain/devices/interface":
		return r.device(e)
	}
	if r.dev == nil {
		return nil
	}
	switch strings.Join(r.path[r.place:], "/") {
	case "driver":
		r.dev.Driver = attr(e, "name")
	case "teaming":
		r.dev.spare = attr(e, "type") == "transient"
	case "source/address":
		return r.address(e, from)
	}
	return nil
}

// device begins an element that is one of the host's devices, if it is one.
func (r *reader) device(e xml.StartElement) error {
	typ := attr(e, "type")
	h := &Hostdev{Kind: PCI}
	switch mode := attr(e, "mode"); {
	case e.Name.Local == "interface" && typ == "hostdev":
	case e.Name.Local == "interface", mode != "" && mode != "subsystem":
		return nil
	case typ == string(Mdev):
		h.Kind, h.Model = Mdev, attr(e, "model")
	case typ == string(PCI):
	default:
		return nil // usb, scsi, scsi_host, mdev_types of other hypervisors: nothing that VFIO moves
	}
	if err := r.unique(e); err != nil {
		return err
	}
	r.dev, r.place = h, len(r.path)
	return nil
}

// address takes the address of the device that is open.
func (r *reader) address(e xml.StartElement, from int) error {
	if err := r.unique(e); err != nil {
		return err
	}
	if r.dev.tag != nil {
		return r.fail("one device has two addresses")
	}
	h := r.dev
	h.tag, h.from = r.doc.text[from:r.dec.InputOffset()], from
	h.Line, _ = r.dec.InputPos()
	if t := attr(e, "type"); t != "" && t != string(h.Kind) {
		return r.fail("a device of type %s has an address of type %q", h.Kind, t)
	}
	var err error
	if h.Kind == Mdev {
		h.Device, err = uuid(attr(e, "uuid"))
	} else {
		h.Device, err = function(e)
	}
	if err != nil {
		return r.fail("%v", err)
	}
	return nil
}

// close ends the element that is open.
func (r *reader) close() error {
	at := r.at()
	r.path = r.path[:len(r.path)-1]
	switch at {
	case "domain/name":
		r.doc.Name, r.char = r.char.String(), nil
	case "domain/uuid":
		text := r.char.String()
		r.char = nil
		var err error
		if r.doc.UUID, err = uuid(strings.TrimSpace(text)); err != nil {
			return r.fail("%v", err)
		}
	}
	if r.dev == nil || len(r.path) >= r.place {
		return nil
	}
	h := r.dev
	r.dev = nil
	if h.tag == nil {
		return r.fail("a device of type %s has no source address", h.Kind)
	}
	if r.known[h.Device] {
		return r.fail("device %s is assigned twice", h.Device)
	}
	r.known[h.Device] = true
	if !h.spare {
		r.doc.Hostdevs = append(r.doc.Hostdevs, *h)
	}
	return nil
}

// unique refuses an element that has an attribute twice: readers differ in which
// one they take.
func (r *reader) unique(e xml.StartElement) error {
	seen := make(map[xml.Name]bool, len(e.Attr))
	for _, a := range e.Attr {
		if seen[a.Name] {
			return r.fail("<%s> has the attribute %s twice", e.Name.Local, a.Name.Local)
		}
		seen[a.Name] = true
	}
	return nil
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
