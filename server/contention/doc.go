// SPDX-License-Identifier: Apache-2.0

// Package contention tries claims where it is hardest to keep them right: many
// clients at three servers, which share an etcd of three members, while
// processes are killed and stopped and the network between them is cut.
//
// Everything is real but the hosts: kindredd as it is shipped, members of etcd
// in processes of their own, each of them in a network namespace with one cable
// to a bridge. The whole lives in namespaces of the test's own, and ends with it.
//
// It promises, of what it has seen:
//
//   - Whatever clients were answered could have been so had they asked one after
//     the other, each between its question and its answer ([porcupine]).
//   - At no revision of the store did claims hold more than a parent has, types
//     that share a pool counted together.
//   - What was answered is what the store has.
//
// There are only tests here. They need root, for the namespaces.
//
// [porcupine]: https://github.com/anishathalye/porcupine
package contention
