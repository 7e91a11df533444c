# Kindred: what people and CI run. `make help` lists it.
GO ?= go
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

build: ## build bin/kindred and bin/kindredd
	$(GO) build -trimpath -ldflags='-s -w' -o bin/ ./cmd/kindred ./cmd/kindredd

demo: build ## the main job on a simulated fleet, then the fleet to explore (ONCE=1: end after it)
	@$(GO) build -trimpath -o bin/kindred-demo ./demo
	@bin/kindred-demo $(if $(ONCE),--once)

test: ## everything; as root on Debian it installs what it needs
	@sh tools/test.sh

test-contention: ## claims by 200 clients, while servers and members of etcd are killed and cut off (root; two minutes)
	KINDRED_NET=1 $(GO) test -count=1 -v ./server/contention -run 'TestContention$$'

lab: ## two hosts with real kernels and devices, a shell on each, until Ctrl-C
	@$(GO) run ./lab/cmd/kindred-lab up $(if $(shell command -v tmux),-tmux) $(subst $(comma), ,$(HOSTS))

comma := ,

lab-iommufd: ## build a kernel with IOMMUFD for the lab, once: ten minutes
	@$(GO) run ./lab/cmd/kindred-lab prepare iommufd

lab-record: ## record the lab's hosts again, for the demo and the tests
	KINDRED_LAB=1 $(GO) test -count=1 ./lab -run 'TestTargets|TestFunctions' -update -v

lab-libvirt: ## put libvirt into the lab's cache, for its test with our mdevctl
	@$(GO) run ./lab/cmd/kindred-lab prepare libvirt

lab-vm-image: ## build the lab's hypervisors: a root with libvirt and QEMU, once
	@$(GO) run ./lab/cmd/kindred-lab prepare vm

lab-vm: lab-vm-image ## real VMs between the lab's hypervisors, by libvirt and QEMU: ten minutes (UPDATE=1: and their page)
	KINDRED_LAB=1 KINDRED_LAB_VM=1 $(GO) test -count=1 -timeout 60m ./lab -run TestVM -v $(if $(UPDATE),-update)

bench: ## against mdevctl and against a bare loop, in one run (root; Debian's mdevctl)
	@$(GO) run ./bench/cmd/kindred-bench -newer "$$($(GO) run ./lab/cmd/kindred-lab prepare mdevctl)"

bench-server: ## a fleet server with ten thousand hosts, over HTTP, into docs/benchmarks.md: three minutes
	@$(GO) run ./bench/cmd/server-bench -write docs/benchmarks.md

bench-placement: ## OpenStack's Placement beside a fleet server, into docs/benchmarks.md (root; Debian's Placement): three minutes
	@$(GO) run ./bench/cmd/placement-bench -write docs/benchmarks.md

fuzz: ## each fuzz test for 30 s (FUZZTIME=5m for longer)
	@sh tools/fuzz.sh $(or $(FUZZTIME),30s)

schema: ## write docs/schema and docs/openapi.json from the Go types
	$(GO) test ./inventory ./compat ./server -run 'TestSchema|TestOpenAPI' -update

.PHONY: help build demo test test-contention lab lab-iommufd lab-record lab-libvirt lab-vm lab-vm-image bench fuzz schema
