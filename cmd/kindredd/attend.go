// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"time"

	"kindred/internal/service"
	"kindred/server"
)

// attend tells the service manager that the server answers, as often as that wants
// to hear it, and at the end that it is told to stop. Whether the store is there is
// not the question: a server that waits for its store gains nothing by a restart.
func attend(ctx context.Context, manager service.Manager, s *server.Server, log *slog.Logger) {
	tell := func(state ...string) {
		if err := manager.Tell(state...); err != nil {
			log.Warn("tell the service manager", "error", err)
		}
	}
	tell("READY=1", "WATCHDOG=1")
	defer tell("STOPPING=1")
	if manager.Watchdog == 0 {
		<-ctx.Done()
		return
	}
	again := time.NewTicker(manager.Watchdog / 3)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			s.Health() // does not return where nothing else would be answered
			tell("WATCHDOG=1")
		}
	}
}
