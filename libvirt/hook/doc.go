// SPDX-License-Identifier: Apache-2.0

// Package hook is what libvirt calls on a host when a domain comes, ends or goes
// (/etc/libvirt/hooks/qemu). For a domain that a live migration brings, and that
// has devices of another host, it has the fleet prepare devices on this one, and
// puts their addresses into the domain.
//
// It promises:
//
//   - A domain without such devices is let through at once, and nobody is asked.
//   - Libvirt waits no longer than the configured deadline, whatever becomes of
//     the server. What cannot be had by then is refused, with the reason, and what
//     was begun for it is given back.
//   - It never calls libvirt: libvirt waits for it, and would wait for ever.
//   - What is handed over is on the disk before. How the migration ended is told
//     the server by a follower, a process of its own that the hook leaves behind
//     and that watches the domain through libvirt; where nobody follows, the
//     server finds out itself at the migration's deadline.
//
// libvirt's side of it is described in its docs/hooks.rst.
package hook
