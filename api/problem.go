// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"slices"
)

// Code says what kind of refusal a [Problem] is. Codes are stable.
type Code string

const (
	BadRequest      Code = "bad-request"
	TooBig          Code = "too-big"
	Unauthorized    Code = "unauthorized"
	Forbidden       Code = "forbidden"
	NotFound        Code = "not-found"
	Ambiguous       Code = "ambiguous"
	NeedStatic      Code = "need-static"
	NeedReport      Code = "need-report"
	RevisionChanged Code = "revision-changed"
	KeyReused       Code = "key-reused"
	NoTarget        Code = "no-target"
	NotCompatible   Code = "not-compatible"
	NotSettled      Code = "not-settled"
	NoRoom          Code = "no-room"
	NotReady        Code = "not-ready"
	HostSilent      Code = "host-silent"
	HostObserves    Code = "host-observes"
	HostNeeded      Code = "host-needed"
	HostLost        Code = "host-lost"
	HostAhead       Code = "host-ahead"
	DeviceClaimed   Code = "device-claimed"
	NotInUse        Code = "not-in-use"
	ClaimBound      Code = "claim-bound"
	ClaimEnded      Code = "claim-ended"
	WrongState      Code = "wrong-state"
	DeadlinePassed  Code = "deadline-passed"
	DeviceFailed    Code = "device-failed"
	MoveFailed      Code = "move-failed"
	StateRejected   Code = "state-rejected"
	DeviceGone      Code = "device-gone"
	DeviceReset     Code = "device-reset"
	NoAuthority     Code = "no-authority"
	CanariesUnsafe  Code = "canaries-unsafe"
	CanaryForbidden Code = "canary-forbidden"
	CanaryCutShort  Code = "canary-cut-short"
	BuildUnknown    Code = "build-unknown"
	NotOffered      Code = "not-offered"
	NoListener      Code = "no-listener"
	TooBusy         Code = "too-busy"
	TooLong         Code = "too-long"
	TooManyStatics  Code = "too-many-statics"
	Unavailable     Code = "unavailable"
	Internal        Code = "internal"
)

var codes = map[Code]struct {
	status  int
	meaning string
}{
	BadRequest:      {400, "the request cannot be understood"},
	TooBig:          {413, "the request is longer than the server takes"},
	Unauthorized:    {401, "the server does not know who asks"},
	Forbidden:       {403, "who asks may not do this"},
	NotFound:        {404, "there is no such thing"},
	Ambiguous:       {409, "several devices are named so"},
	NeedStatic:      {409, "the server has not seen this static part: send it, then report again"},
	NeedReport:      {409, "the server has another report of this host, or none: send the whole one"},
	RevisionChanged: {412, "it was changed meanwhile: read it again"},
	KeyReused:       {409, "the idempotency key was used for another request"},
	NoTarget:        {409, "no host takes these devices"},
	NotCompatible:   {409, "the devices cannot go there"},
	NotSettled:      {409, "something is not known, and was not accepted"},
	NoRoom:          {409, "there is no room for all of these devices"},
	NotReady:        {409, "the target lacks something that a migration needs"},
	HostSilent:      {409, "the host does not report"},
	HostObserves:    {409, "the host's agent observes: it makes and removes nothing"},
	HostNeeded:      {409, "the host reports, or a claim or a migration depends on it"},
	HostLost:        {409, "the host is gone for good, somebody said"},
	HostAhead:       {409, "a host has carried out more than this server knows of: it was restored from before that"},
	DeviceClaimed:   {409, "room is held for this device already"},
	NotInUse:        {409, "a host may take over only devices that a VM uses"},
	ClaimBound:      {409, "a migration uses this claim: complete or abort the migration"},
	ClaimEnded:      {409, "this claim holds no room any more"},
	WrongState:      {409, "the migration is not in a state for this"},
	DeadlinePassed:  {409, "the deadline passed"},
	DeviceFailed:    {409, "a device could not be made"},
	MoveFailed:      {409, "moves of this owner failed again and again"},
	StateRejected:   {409, "a driver refused the state: the VM stayed on the source"},
	DeviceGone:      {409, "the target became the owner, and does not have a device any more"},
	DeviceReset:     {409, "a driver refused the state of a device, which was reset: its VM runs on without it"},
	NoAuthority:     {409, "this server signs no certificates: start it with a seal key"},
	CanariesUnsafe:  {409, "the driver's catalog says that canaries are unsafe"},
	CanaryForbidden: {409, "the host's operator does not allow canaries there"},
	CanaryCutShort:  {409, "the agents began again and again, and one of them lost it each time"},
	BuildUnknown:    {409, "a driver's build is not known, so no proof can be about it"},
	NotOffered:      {409, "the host does not offer the type"},
	NoListener:      {409, "the target's agent takes no canaries from elsewhere"},
	TooBusy:         {429, "the server is at as many long questions as it takes at once: try again"},
	TooLong:         {503, "the answer took longer than the server takes for one: ask about less"},
	TooManyStatics:  {429, "this host's static part was another one too often: a fact of it changes that should not"},
	Unavailable:     {503, "the store cannot be reached, or has no majority: try again"},
	Internal:        {500, "the server failed"},
}

// Codes lists every code, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codes)) }

// Status is the HTTP status that goes with the code.
func (c Code) Status() int { return codes[c].status }

// Meaning is what the code says, in one line.
func (c Code) Meaning() string { return codes[c].meaning }

// Problem is a refusal: an RFC 9457 problem document.
type Problem struct {
	Type   string `json:"type"` // urn:kindred:problem:CODE
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code"`
	// Reasons are why, one by one, where there are several.
	Reasons []Cause `json:"reasons,omitempty"`
	// Revision is that of what the refusal rests on, where it is known.
	Revision int64 `json:"revision,omitempty"`
}

// Cause is one reason of a refusal.
type Cause struct {
	Subject string `json:"subject,omitempty"` // the device, host or key that it is about
	Code    string `json:"code,omitempty"`    // of package compat or fleet
	Text    string `json:"text"`
}

// ProblemType is the media type of problems.
const ProblemType = "application/problem+json"

// NewProblem makes a refusal.
func NewProblem(code Code, format string, args ...any) *Problem {
	return &Problem{
		Type: "urn:kindred:problem:" + string(code), Title: code.Meaning(), Status: code.Status(),
		Code: code, Detail: fmt.Sprintf(format, args...),
	}
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, r := range p.Reasons {
		text += "; "
		if r.Subject != "" {
			text += r.Subject + ": "
		}
		if r.Code != "" {
			text += r.Code + ": "
		}
		text += r.Text
	}
	return text
}

// GetStatus is the HTTP status, for the server's framework.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type in which the problem is sent.
func (p *Problem) ContentType(string) string { return ProblemType }

// Is matches problems by their code: errors.Is(err, &Problem{Code: NoRoom}).
func (p *Problem) Is(target error) bool {
	other, ok := target.(*Problem)
	return ok && other.Code == p.Code
}
