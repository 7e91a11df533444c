// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command server-bench measures a fleet server with ten thousand hosts over
// HTTP, and prints a Markdown table:
//
//	go run ./bench/cmd/server-bench
//
// The server is a kindredd of its own, built for it, with etcd within and a data
// directory that is removed at the end. Hosts that do not exist join it over TLS
// on the loopback address, each with its certificate and its connection, report,
// say that they are alive, and listen to what they are to do; they are in another
// process, so that what they use is not the server's. Then devices are made and
// removed on them so many times a second, while questions are asked over kept
// connections, in this process. All of them share the machine's cores.
//
// With -profile profiles of the server and of the load are written while it is
// measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"kindred/bench/fleets"
)

// options are what is measured.
type options struct {
	size     fleets.Size
	seed     uint64
	rate     int
	asks     int
	conns    int
	warm     time.Duration
	duration time.Duration
	observe  bool
	profile  string
	write    string
}

const hostsProcess = "hosts" // what the program is told when it is the hosts' process

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := start(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "server-bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	if len(os.Args) == 2 && os.Args[1] == hostsProcess {
		return runHostsProcess(ctx)
	}
	var o options
	flag.IntVar(&o.size.Hosts, "hosts", 10_000, "how many `HOSTS`")
	flag.IntVar(&o.size.Parents, "parents", 8, "how many `PARENTS` each has")
	flag.IntVar(&o.size.Types, "types", 16, "how many `TYPES` each parent offers, a multiple of 4")
	flag.IntVar(&o.size.Devices, "devices", 5, "how many `DEVICES` are made on each host, where they fit")
	flag.Uint64Var(&o.seed, "seed", 1, "`NUMBER` that the fleet is made from")
	flag.IntVar(&o.rate, "rate", 1000, "how many `CHANGES` of hosts a second")
	flag.IntVar(&o.asks, "asks", 100, "how many `QUESTIONS` a second")
	flag.IntVar(&o.conns, "conns", 8, "how many `QUESTIONS` are under way at once, at most")
	flag.DurationVar(&o.warm, "warm", 15*time.Second, "how long changes and questions go on before they are measured")
	flag.DurationVar(&o.duration, "for", time.Minute, "how `LONG` is measured")
	flag.BoolVar(&o.observe, "observe", false, "agents that only observe: they listen to nothing")
	flag.StringVar(&o.profile, "profile", "", "write profiles of the server, the hosts and the questions to `DIR`")
	flag.StringVar(&o.write, "write", "", "write the result to a `PAGE` of the documentation")
	flag.Parse()
	if o.size.Hosts < 2 || o.rate < 0 || o.asks < 1 || o.conns < 1 || o.duration < time.Second || flag.NArg() > 0 {
		flag.Usage()
		return fmt.Errorf("nothing to measure with these flags")
	}
	return measure(ctx, &o)
}
