// SPDX-License-Identifier: Apache-2.0

// Package stream is the container for a recorded device state: what a driver
// gave while it saved a device, with enough beside it to judge, before
// anything is loaded, where it may be loaded.
//
// # Layout
//
// Numbers are big endian. A stream is written and read once, front to back.
//
//	start    8 bytes magic, u32 version, u32 zero
//	frame    head: u32 kind, u32 length, u64 sequence, u64 sum of the body,
//	         u64 sum of the 24 bytes before; then the body, at most MaxFrame
//
// The frames are one header (JSON, see [Header]), any number of payload frames
// that are not empty, at most one trailer (JSON, its meaning is its writer's),
// and one end. The end's body is u64 payload bytes, u64 payload frames, and a
// SHA-256 over everything before it but the bodies of payload frames, which
// their sums in the heads stand for. Sequence counts frames from zero.
//
// # Promises
//
// A [Reader] hands out payload bytes only after the sum of their frame was
// verified, and says io.EOF only after the end frame was verified and nothing
// follows it. A stream that was cut, or had frames lost, swapped, repeated or
// changed in any byte, ends in an [*Error]; io.EOF of the underlying reader
// never gets through. So whoever commits a device at io.EOF, and resets it at
// any error, never runs a device on part of a state. What precedes the end may
// already have been handed out: io.EOF is the verdict, not the bytes.
//
// Memory is two batches of sixteen frames on the writer's side and one frame on the
// reader's, however long the stream.
//
// # What the sums are worth
//
// They protect against accident, not against malice. Sums are XXH64: one
// change in 2^64 goes unnoticed if it is a random one, but whoever wants to
// can make another frame of the same sum, and the SHA-256 over the heads is no
// secret either. Against malice stands what carries the stream: mutual TLS on
// the way (where a cut is an error as well), file permissions or a signature
// over the whole file at rest. Even so a header is only what its writer says:
// a device is judged by it as by any inventory of another host.
//
// XXH64 was chosen by measurement (BenchmarkSum, and zeebo/xxh3 beside it): it needs nothing but 64-bit
// multiplication, so that it costs little both on a host and in an emulated
// guest, where vector instructions and hardware checksums are slow. On the
// machine this was written on, native and in a QEMU TCG guest, in GB/s:
//
//	XXH64    14.3  4.3        XXH3-128  68.9  0.51
//	CRC-32C  26.0  0.46       CRC-64     1.4  0.55
//	SHA-256   1.0  0.03       (copying  17.7  3.5)
//
// BenchmarkTLS compares the whole with a bare io.Copy on the same connection. A
// batch is summed and written beside the filling of the next one: with TLS both
// processors are busy as it is, but an emulated one reads a device no faster than
// it sums.
package stream
