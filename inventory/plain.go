// SPDX-License-Identifier: Apache-2.0

package inventory

import "kindred/internal/plainjson"

// ReadPlain reads what encoding/json writes of an own part. Where a device has what
// few have, or there is a name that is not known, the reader gives up.
func (o *Own) ReadPlain(r *plainjson.Reader) {
	r.Object(func(name []byte) {
		switch string(name) {
		case "static":
			o.Static = r.Text()
		case "host":
			o.Host = r.Text()
		case "origin":
			o.Origin = Origin(r.Text())
		case "taken":
			if o.Taken.UnmarshalJSON(r.Quoted()) != nil {
				r.Bad()
			}
		case "devices_unread":
			o.Partial = r.Bool()
		case "available":
			if !r.Null() {
				o.Available = make([]int, 0, 128) // a few cards' types
				r.List(func() { o.Available = append(o.Available, r.Int()) })
			}
		case "creatable":
			o.Creatable = r.Text()
		case "devices":
			if !r.Null() {
				o.Devices = make([]Device, 0, r.Count(`"in_use":`)) // which every device has
				r.List(func() {
					o.Devices = append(o.Devices, Device{})
					o.Devices[len(o.Devices)-1].readPlain(r)
				})
			}
		default:
			r.Bad()
		}
	})
}

func (d *Device) readPlain(r *plainjson.Reader) {
	r.Object(func(name []byte) {
		switch string(name) {
		case "id":
			d.ID = r.Text()
		case "kind":
			d.Kind = DeviceKind(r.Text())
		case "parent":
			d.Parent = r.Text()
		case "type":
			d.Type.readPlain(r)
		case "driver":
			d.Driver.readPlain(r)
		case "modules":
			d.Modules = readTexts(r)
		case "iommu_group":
			d.Group.readPlain(r)
		case "node":
			d.Node.readPlain(r)
		case "in_use":
			if d.InUse.UnmarshalText([]byte(r.Text())) != nil {
				r.Bad()
			}
		case "ours":
			d.Ours = r.Bool()
		case "attributes":
			d.Attributes.readPlain(r)
		case "contract":
			if !r.Null() {
				d.Contract = new(Contract)
				d.Contract.readPlain(r)
			}
		default:
			r.Bad()
		}
	})
}

func (c *Contract) readPlain(r *plainjson.Reader) {
	r.Object(func(name []byte) {
		switch string(name) {
		case "type":
			c.Type.readPlain(r)
		case "label":
			c.Label.readPlain(r)
		case "device_api":
			c.DeviceAPI.readPlain(r)
		case "type_attributes":
			c.TypeAttributes.readPlain(r)
		case "device_attributes":
			c.DeviceAttributes.readPlain(r)
		case "host":
			c.Host = r.Text()
		case "recorded":
			if c.Recorded.UnmarshalJSON(r.Quoted()) != nil {
				r.Bad()
			}
		default:
			r.Bad()
		}
	})
}

func (t *TypeName) readPlain(r *plainjson.Reader) {
	r.Object(func(name []byte) {
		switch string(name) {
		case "namespace":
			t.Namespace = r.Text()
		case "name":
			t.Name = r.Text()
		default:
			r.Bad()
		}
	})
}

func (a *Attributes) readPlain(r *plainjson.Reader) {
	r.Object(func(name []byte) {
		switch string(name) {
		case "values":
			a.Values = make(map[string]Value)
			r.Object(func(name []byte) {
				var v Value
				v.readPlain(r)
				a.Values[string(name)] = v
			})
		case "unread":
			a.Unread = readTexts(r)
		case "complete":
			a.Complete = r.Bool()
		default:
			r.Bad()
		}
	})
}

func (v *Value) readPlain(r *plainjson.Reader) {
	if *v = None(); !r.Null() {
		*v = Of(r.Text())
	}
}

func readTexts(r *plainjson.Reader) []string {
	list := []string{}
	r.List(func() { list = append(list, r.Text()) })
	return list
}
