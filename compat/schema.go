// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	"kindred/inventory"
)

// JSONSchema is the JSON Schema of catalog files, for editors. ParseCatalog is
// stricter: it also judges what one key means beside another.
func JSONSchema() []byte {
	root := schemaOf(reflect.TypeFor[Catalog]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "A catalog of Kindred"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(err) // it is made of maps, lists and text
	}
	return b.Bytes()
}

type schemaNode = map[string]any

func words[T ~string](list ...T) schemaNode {
	values := make([]any, len(list))
	for i, w := range list {
		values[i] = string(w)
	}
	return schemaNode{"type": "string", "enum": values}
}

var scalar = []any{"string", "number", "boolean"}

// ownSchemas are the types that read themselves.
func ownSchemas(t reflect.Type) schemaNode {
	switch t {
	case reflect.TypeFor[SchemaName]():
		return schemaNode{"const": string(CatalogSchema)}
	case reflect.TypeFor[Identity]():
		return words(ByName, ByLabel)
	case reflect.TypeFor[RuleKind]():
		return words(Equal, Superset, AtLeast, AtMost, SemVer, Range, OneOf, Copy, Ignore)
	case reflect.TypeFor[Form]():
		return words(Text, Number, List, BitMask)
	case reflect.TypeFor[Place]():
		return words(OfType, OfDevice, OfParent, OfFirmware, OfDescription, OfFact, OfHost)
	case reflect.TypeFor[Canaries]():
		return words(CanariesSafe, CanariesUnsafe, CanariesUnknown)
	case reflect.TypeFor[CapacityModel]():
		return words(SharedCount, SeparateCounts, OneInstance, SharedPools, UnknownCapacity)
	case reflect.TypeFor[Grade]():
		return words(HeaderOnly.String(), FreshState.String(), WorkingState.String(), Observed.String())
	case reflect.TypeFor[Result]():
		return words(Accepted, Rejected, Inconclusive)
	case reflect.TypeFor[Code]():
		return words(Codes()...)
	case reflect.TypeFor[Outcome]():
		return words("incompatible", "unknown")
	case reflect.TypeFor[inventory.Answer]():
		return words(inventory.Yes, inventory.No, inventory.Unknown)
	case reflect.TypeFor[inventory.ParentKind]():
		return words(inventory.MdevParent, inventory.FunctionParent, inventory.VGPUParent)
	case reflect.TypeFor[Bytes]():
		return schemaNode{"type": "string", "pattern": "^([0-9a-fA-F]{2} *)+$"}
	case reflect.TypeFor[Absence]():
		return schemaNode{"oneOf": []any{words("unknown", "off", "alike"), schemaNode{
			"type": "object", "additionalProperties": false, "required": []any{"value"},
			"properties": schemaNode{"value": schemaNode{"type": scalar}},
		}}}
	case reflect.TypeFor[Settings]():
		return schemaNode{"type": "object", "additionalProperties": schemaNode{"type": []any{"string", "number", "boolean", "null"}}}
	}
	return nil
}

// requiredKeys are the keys without which an entry is refused.
var requiredKeys = sync.OnceValue(func() map[string][]any {
	return map[string][]any{
		"Catalog":     {"schema", "namespaces"},
		"Migration":   {"can", "source"},
		"VersionRule": {"part", "rule", "source"},
		"Capacity":    {"model", "source"},
		"Pool":        {"name", "takes"},
		"Take":        {"units"},
		"ruleText":    {"attribute", "rule", "source"},
		"Pair":        {"source", "target"},
		"Epoch":       {"name", "builds", "source"},
		"KnownBad":    {"builds", "reason", "source"},
		"Equivalence": {"types", "source"},
		"FullName":    {"namespace", "name"},
		"Ratio":       {"attribute", "units"},
		"Waiver":      {"code", "reason", "source"},
		"Example":     {"name", "outcome"},
		"Tried":       {"result", "grade"},
		"Access":      {"region", "at"},
	}
})

// keyTexts describe keys to people in their editors.
var keyTexts = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"Catalog.namespaces":   "the drivers it is about: what stands before a type's name",
		"Catalog.identity":     "what makes two types one interface; label where names are numbers local to a card",
		"Catalog.migration":    "whether types can migrate; the first entry that applies counts, none is unknown",
		"Catalog.build":        "what decides a driver's stream; left out: every module found, all parameters, all firmware",
		"Catalog.proof":        "how proofs count",
		"Catalog.capacity":     "how types share what a parent has",
		"Catalog.rules":        "how attributes are compared; those without a rule must be equal, else the answer is unknown",
		"Catalog.epochs":       "builds that write and read one stream",
		"Catalog.known-bad":    "builds that must not take part",
		"Catalog.equivalent":   "one interface under several names; counts once a transfer proved it",
		"Catalog.examples":     "devices, targets and the answers expected: kindred catalog test runs them",
		"Catalog.waivers":      "findings of kindred catalog lint that are known and kept",
		"ruleText.of":          "where the attribute is found; the type, when left out",
		"ruleText.types":       "glob over type names; all, when left out",
		"ruleText.against":     "the target's attribute, where it is another one",
		"ruleText.absent":      "what it means that the attribute is known not to exist; unknown, when left out",
		"ruleText.refused":     "pairs of values that are refused whatever the rule says; globs",
		"ruleText.otherwise":   "what a refusal is: unknown where sources are silent, incompatible when left out",
		"ruleText.source":      "where it is known from: a file of the kernel, a document, a message",
		"Capacity.one-type":    "whether a parent has instances of one type at a time; unknown, when left out",
		"Take.types":           "glob over type names; all, when left out",
		"Example.device":       "as the base, but for this",
		"Example.target":       "as the device, but for this",
		"Example.contract":     "what its guest was started with: as the device, but for this",
		"Example.codes":        "findings that the verdict has to have",
		"Example.copy":         "what the verdict sets on the target",
		"Side.unobserved":      "what was not observed: <place>:<name>, such as fact:ecc or module:acme",
		"Side.migration":       "whether it can migrate, as observed",
		"ProofPolicy.lowest":   "the lowest grade that counts",
		"ProofPolicy.shaping":  "type attributes that shape the stream",
		"ProofPolicy.exercise": "what makes a canary work as a guest would; without it a proof is of fresh state",
		"ProofPolicy.observe":  "what a guest sees of it, compared on both ends of a transfer",
		"Access.region":        "the region's index; of a PCI device 0 to 5 are its BARs, 7 its config space",
		"Access.at":            "bytes from the region's begin",
		"Access.write":         "bytes in hexadecimal, in the order of their addresses",
		"Access.length":        "how many bytes are read",
		"Waiver.about":         "glob over what findings are about; all, when left out",
	}
})

func schemaOf(t reflect.Type) schemaNode {
	if own := ownSchemas(t); own != nil {
		return own
	}
	if t == reflect.TypeFor[Rule]() {
		t = reflect.TypeFor[ruleText]()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return schemaNode{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return schemaNode{"type": "object", "additionalProperties": schemaNode{"type": scalar}}
	case reflect.Int, reflect.Int64:
		return schemaNode{"type": "integer", "minimum": 0}
	case reflect.Struct:
		return structSchema(t)
	}
	return schemaNode{"type": scalar}
}

func structSchema(t reflect.Type) schemaNode {
	properties := schemaNode{}
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		node := schemaOf(f.Type)
		switch t.Name() + "." + key {
		case "Example.outcome":
			node = words(Compatible.String(), Unknown.String(), Incompatible.String())
		case "KnownBad.role":
			node = words("source", "target", "both")
		case "ruleText.otherwise":
			node = words("incompatible", "unknown")
		case "VersionRule.rule":
			node = words(SemVer, AtLeast, AtMost)
		}
		if text := keyTexts()[t.Name()+"."+key]; text != "" {
			node["description"] = text
		}
		properties[key] = node
	}
	node := schemaNode{"type": "object", "additionalProperties": false, "properties": properties}
	if required := requiredKeys()[t.Name()]; required != nil {
		node["required"] = required
	}
	return node
}
