// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"embed"
	"fmt"
	"slices"
	"sync"
)

//go:embed catalog/*.yaml
var builtIn embed.FS

// BuiltIn are the catalogs that come with Kindred.
var BuiltIn = sync.OnceValue(func() []*Catalog {
	entries, err := builtIn.ReadDir("catalog")
	if err != nil {
		panic(err) // the program was built without its catalogs
	}
	var list []*Catalog
	for _, e := range entries {
		data, err := builtIn.ReadFile("catalog/" + e.Name())
		if err != nil {
			panic(err)
		}
		c, err := ParseCatalog("built-in "+e.Name(), data)
		if err != nil {
			panic(err) // TestBuiltIn parses every one of them
		}
		list = append(list, c)
	}
	return list
})

// Catalogs are looked up by namespace.
type Catalogs struct{ byNamespace map[string]*Catalog }

// NewCatalogs puts the built-in catalogs together with a site's. A site's
// catalog takes the place of the built-in one for each namespace it is about;
// two of a site about one namespace are an error.
func NewCatalogs(builtIn, site []*Catalog) (*Catalogs, error) {
	cs := &Catalogs{byNamespace: make(map[string]*Catalog)}
	add := func(list []*Catalog, own map[string]*Catalog) error {
		for _, c := range list {
			for _, namespace := range c.Namespaces {
				if other := own[namespace]; other != nil {
					return fmt.Errorf("catalog %s: namespace %q is in %s already", c.Name, namespace, other.Name)
				}
				own[namespace] = c
				cs.byNamespace[namespace] = c
			}
		}
		return nil
	}
	if err := add(builtIn, make(map[string]*Catalog)); err != nil {
		return nil, err
	}
	if err := add(site, make(map[string]*Catalog)); err != nil {
		return nil, err
	}
	return cs, nil
}

// For returns the catalog for a namespace, nil if there is none.
func (cs *Catalogs) For(namespace string) *Catalog { return cs.byNamespace[namespace] }

// Modules are the kernel modules that any catalog names, sorted: an inventory
// has to tell of them.
func (cs *Catalogs) Modules() []string {
	var names []string
	for _, c := range cs.byNamespace {
		names = append(names, c.Build.Modules...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Capacity is the model for a namespace's types, nil if there is none.
func (e *Engine) Capacity(namespace string) *Capacity {
	if c := e.catalogs.For(namespace); c != nil {
		return &c.Capacity
	}
	return nil
}
