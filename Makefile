# Everything a developer or CI types. `make help` lists it.
SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
ARGS ?=
PART ?=
JSON ?=
MOCHA := mocha --config test/mocharc.json

.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  make demo ARGS=--once runs every check once and ends; ARGS=--json prints them as JSON'

node_modules/.package-lock.json: package.json package-lock.json
	@build/setup npm

gen: node_modules/.package-lock.json ## generate gen/ from proto/mesh.proto
	node build/gen.ts

build: node_modules/.package-lock.json ## bundle dist/meshd.js and dist/meshctl.js
	@node build/bundle.ts

types: node_modules/.package-lock.json
	tsc --noEmit

lint: node_modules/.package-lock.json ## linter, formatter and generated code, all as CI wants them
	oxlint --type-aware --deny-warnings src test build
	prettier --check --log-level warn --cache --cache-location .cache/prettier .
	node build/gen.ts --check

unit: node_modules/.package-lock.json
	@node build/bundle.ts
	DIST_IS_BUILT=1 $(MOCHA) --parallel --jobs 2 $(foreach part,core io app cli arch,'test/$(part)/**/*.test.ts')

check: types lint unit ## types, lint, unit and property tests: under a minute

demo: node_modules/.package-lock.json ## three clusters become one network, in network namespaces
	@build/setup demo
	@node build/bundle.ts
	@test/demo/run $(ARGS)

lab: node_modules/.package-lock.json ## two real Kubernetes clusters of two nodes each, joined, until Ctrl-C (as root; builds for 20 min the first time)
	@build/setup test
	@node build/bundle.ts
	@PROGRAM=test/lab/support/nodes/main.ts test/demo/run

conformance: node_modules/.package-lock.json ## the conformance suite of the MCS API, the program SUITE=…, on two real clusters (as root; 7 min)
	@build/setup test
	@node build/bundle.ts
	@SUITE='$(SUITE)' REPORT='$(or $(REPORT),conformance-report)' FOCUS='$(FOCUS)' test/contained node test/lab/support/nodes/conformance.ts

test: lab-programs types lint ## unit, property, contract, lab (namespaces, a virtual machine), hostile, demo, and a scenario for each known fault
	test/run

test-all: lab-programs types lint ## what `make test` runs, and all other scenarios and tests with Kubernetes: as CI does
	test/run all

lab-programs: node_modules/.package-lock.json
	@build/setup test
	@build/kube-lab nodes >/dev/null
	@build/node-tools >/dev/null
	@build/helm >/dev/null
	@[ "$$(uname -m)" != x86_64 ] || build/guest >/dev/null

coverage: node_modules/.package-lock.json ## what `make test-all` runs, slower, and how much of src it reaches
	c8 --config test/c8rc.json test/run all

bench: node_modules/.package-lock.json ## figures beside their baselines; PART=replication|dns|host JSON=<file>
	@build/setup bench
	@build/kube-lab >/dev/null
	@node test/bench/main.ts $(if $(PART),--part $(PART)) $(if $(JSON),--json $(JSON))

sim: node_modules/.package-lock.json ## one simulated storm: SEED=1 AGENTS=12 FAULTS=all|none|loss,kill,… SHAPE=full|line|tree
	@SEED='$(SEED)' SEEDS='$(SEEDS)' AGENTS='$(AGENTS)' FAULTS='$(FAULTS)' SHAPE='$(SHAPE)' node test/sim/main.ts

soak: node_modules/.package-lock.json ## thousands of storms, then hostile peers with large numbers: SEEDS=5000 SEED=<first> HOSTILE_SCALE=10
	@SEED='$(SEED)' SEEDS='$(or $(SEEDS),5000)' AGENTS='$(AGENTS)' FAULTS='$(FAULTS)' SHAPE='$(SHAPE)' node test/sim/main.ts
	@node build/bundle.ts
	HOSTILE_SCALE='$(or $(HOSTILE_SCALE),10)' DIST_IS_BUILT=1 $(MOCHA) --timeout 3600000 test/hostile/hostile.test.ts

reference: node_modules/.package-lock.json ## make docs/reference.md, the table of settings and metrics
	node build/reference.ts

manifests: node_modules/.package-lock.json ## make deploy/manifests from the chart (needs Go: Helm is built once)
	node build/manifests.ts

clean: ## remove what was built, and what a broken run of the demo or the tests left on this machine
	@if [ -d node_modules ]; then node test/lab/support/sweep.ts; fi
	rm -rf dist dist.* coverage

.PHONY: help gen build types lint unit check demo lab conformance test coverage bench sim soak manifests clean reference
