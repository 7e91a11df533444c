// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"maps"
	"slices"
	"sync"
)

// Code identifies a kind of finding. Codes are stable: programs read them, and
// what one means never changes.
type Code string

const (
	TypeSame             Code = "type.same"
	TypeDifferent        Code = "type.different"
	TypeNotOffered       Code = "type.not-offered"
	TypeUnlisted         Code = "type.unlisted"
	TypeUnknown          Code = "type.unknown"
	TypeEquivalent       Code = "type.equivalent"
	EquivalenceUnproven  Code = "equivalence.unproven"
	APIEqual             Code = "api.equal"
	APIDifferent         Code = "api.different"
	APIUnknown           Code = "api.unknown"
	MigrationSupported   Code = "migration.supported"
	MigrationUnsupported Code = "migration.unsupported"
	MigrationUnknown     Code = "migration.unknown"
	AttributeAccepted    Code = "attribute.accepted"
	AttributeCopied      Code = "attribute.copied"
	AttributeDiffers     Code = "attribute.differs"
	AttributeLacks       Code = "attribute.lacks"
	AttributeTooLow      Code = "attribute.too-low"
	AttributeTooHigh     Code = "attribute.too-high"
	AttributeOutOfRange  Code = "attribute.out-of-range"
	AttributeNotListed   Code = "attribute.not-listed"
	AttributeIndivisible Code = "attribute.indivisible"
	AttributeMalformed   Code = "attribute.malformed"
	AttributeUnobserved  Code = "attribute.unobserved"
	AttributeAbsent      Code = "attribute.absent"
	AttributeUnjudged    Code = "attribute.unjudged"
	AttributesIncomplete Code = "attributes.incomplete"
	VersionMajor         Code = "version.major"
	VersionOlder         Code = "version.older"
	ContractUnread       Code = "contract.unread"
	ContractType         Code = "contract.type"
	BuildEqual           Code = "build.equal"
	BuildEpoch           Code = "build.epoch"
	BuildAccepted        Code = "build.accepted"
	BuildProved          Code = "build.proved"
	BuildUnproven        Code = "build.unproven"
	BuildRefused         Code = "build.refused"
	BuildUnknown         Code = "build.unknown"
	BuildKnownBad        Code = "build.known-bad"
	ProofAccepted        Code = "proof.accepted"
	ProofRejected        Code = "proof.rejected"
	ProofTooWeak         Code = "proof.too-weak"
	ProofInconclusive    Code = "proof.inconclusive"
)

// Where findings come from that no catalog made.
const (
	builtInFrom = "kindred"
	proofFrom   = "proof"
)

// codes says what each code means, and what would change it.
var codes = sync.OnceValue(func() map[Code]struct{ text, remedy string } {
	return map[Code]struct{ text, remedy string }{
		TypeSame:             {"the same type", ""},
		TypeDifferent:        {"different types are different", "create the device as the source's type there; if the two are one interface, a catalog can declare them equivalent and a proof settle it"},
		TypeNotOffered:       {"not offered there", "a driver or a parent there that offers the source's type too"},
		TypeUnlisted:         {"not all types there could be listed", "see the inventory's warnings for the path, and inspect again"},
		TypeUnknown:          {"the type's identity could not be read", "see the inventory's warnings for the path, and inspect again"},
		TypeEquivalent:       {"declared equivalent, and proved", ""},
		EquivalenceUnproven:  {"declared equivalent, but no transfer proved it", "a proof of a real transfer between these types and builds settles it"},
		APIEqual:             {"the same device API", ""},
		APIDifferent:         {"the guest would see another device API", "none: choose another target"},
		APIUnknown:           {"the device API could not be read", "see the inventory's warnings for the path, and inspect again"},
		MigrationSupported:   {"can migrate", ""},
		MigrationUnsupported: {"cannot migrate", "a driver, kernel or configuration that supports migration"},
		MigrationUnknown:     {"nothing tells whether it can migrate", "state it in a catalog, or let debugfs or a probe of an idle device show it"},
		AttributeAccepted:    {"its rule is satisfied", ""},
		AttributeCopied:      {"to be set on the target while claiming", ""},
		AttributeDiffers:     {"must be equal", "a target with the same value"},
		AttributeLacks:       {"the target lacks a part of it", "a target that has all of the source's"},
		AttributeTooLow:      {"lower on the target", "a target with at least the source's value"},
		AttributeTooHigh:     {"higher on the target", "a target with at most the source's value"},
		AttributeOutOfRange:  {"outside the range that the target takes", "a target whose range includes it"},
		AttributeNotListed:   {"not among the values that the target takes", "a target that lists it"},
		AttributeIndivisible: {"no whole value makes an instance of the target's type as large", "a target that offers the device's own type, or a smaller one"},
		AttributeMalformed:   {"its value cannot be read as the rule needs it", "correct the value, or the rule in the catalog"},
		AttributeUnobserved:  {"not observed", "inspect again with the right to read it; for a fact, state it in /etc/kindred/facts.d"},
		AttributeAbsent:      {"absent, and its rule does not say what absence means", "say in the catalog's rule what absence means"},
		AttributeUnjudged:    {"no rule says whether it matters", "give it a rule in a catalog"},
		AttributesIncomplete: {"not all attributes could be listed", "see the inventory's warnings for the path, and inspect again"},
		VersionMajor:         {"another major version", "a target of the same major version"},
		VersionOlder:         {"older on the target", "a target of the same or a newer minor version"},
		ContractUnread:       {"what the device promised its guest could not be read", "make the record in /var/lib/kindred/devices readable, and inspect again"},
		ContractType:         {"not the type that the guest was started with", "none: the guest keeps the type it was started with"},
		BuildEqual:           {"the same driver build", ""},
		BuildEpoch:           {"builds with the same stream", ""},
		BuildAccepted:        {"the builds' versions satisfy the catalog's rule", ""},
		BuildProved:          {"different builds, proved by a real transfer", ""},
		BuildUnproven:        {"different driver builds, and no transfer proved them", "a proof of a real transfer between these builds settles it"},
		BuildRefused:         {"the builds' versions do not satisfy the catalog's rule", "a target whose driver is new enough"},
		BuildUnknown:         {"a part of the driver's build could not be read", "see the inventory's warnings, and inspect again as root"},
		BuildKnownBad:        {"a build known to be bad", "another build of the driver"},
		ProofAccepted:        {"a real transfer was accepted", ""},
		ProofRejected:        {"a real transfer was rejected", "another build on either side"},
		ProofTooWeak:         {"a transfer was accepted, at a lower grade than the catalog asks for", "a proof of a higher grade"},
		ProofInconclusive:    {"a transfer was tried without a conclusion", "repeat the proof"},
	}
})

// Codes lists every code, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codes())) }

// Meaning is what the code says, in one line.
func (c Code) Meaning() string { return codes()[c].text }

// Remedy is what would change the finding; empty when nothing needs to.
func (c Code) Remedy() string { return codes()[c].remedy }
