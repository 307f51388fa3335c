# make help lists the targets.

GO          ?= go
VERSION     ?=
LDFLAGS     := $(if $(VERSION),-X main.release=$(VERSION))
RUN_SECONDS ?= 0
FUZZ_TIME   ?= 10s
TEST_TIME   ?= 15m
# Most tests wait for processes, timers and disks: more of a package's run at once than there are cores.
TESTS_AT_ONCE ?= $(shell echo $$(( 2 * $$(nproc) )))
CHAOS_SECONDS ?= 60
CHAOS_ROUNDS ?= 1
CHAOS_SEED  ?= 0
CHAOS_FAULT ?= *
MUTANTS     ?= *
SCHEDULES   ?= 20000
HOURS       ?= 1
STATICCHECK ?= v0.8.2
DIST_URL    ?= http://localhost/logforward
DIST_KEY    ?= plugins.seed
DIST_POLICY ?=
DIST_MATCH  ?= has_file("/lib64/ld-linux-x86-64.so.2") && !has_command("logforward")
SHELL       := /bin/bash

.DEFAULT_GOAL := build
.PHONY: help build choria run fleet dist packages test test-alerts test-fleet test-machine test-packages test-puppet lint model chaos mutants bench bench-page bench-parts bench-peers soak fuzz docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/logforward; VERSION=1.2.3 sets what it calls itself
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/logforward ./cmd/logforward

choria: bin/choria bin/choria-next ## Build what a test fleet runs: bin/choria, the real 0.29.4, and bin/choria-next, 0.30.2 from its libraries

bin/choria: $(wildcard test/choria/*.go) test/choria/go.mod test/choria/go.sum
	@echo "building $@ from the module test/choria; about a minute the first time"
	cd test/choria && $(GO) build -buildvcs=false -ldflags '-s -w' -o ../../$@ .
	@touch $@

bin/choria-next: $(wildcard test/choria/next/*.go) test/choria/next/go.mod test/choria/next/go.sum
	@echo "building $@ from the module test/choria/next; about a minute the first time"
	cd test/choria/next && $(GO) build -buildvcs=false -ldflags '-s -w' -o ../../../$@ .
	@touch $@

run: build ## Forward a log that grows, and one of this machine's, until Ctrl-C or for RUN_SECONDS
	@set -e; mkdir -p demo; \
	( n=0; while :; do n=$$((n+1)); printf '%s demo line %d\n' "$$(date -Is)" $$n; sleep 0.05; done >> demo/demo.log ) & writer=$$!; \
	trap 'kill $$writer 2>/dev/null || true' EXIT; \
	logs=demo/demo.log; [ ! -f /var/log/dpkg.log ] || logs="$$logs /var/log/dpkg.log"; \
	until [ -s demo/demo.log ]; do sleep 0.05; done; \
	bin/logforward run $$logs --output received --seconds $(RUN_SECONDS)

fleet: build choria ## Show a fleet on this machine, with a real Choria, that choria req steers
	$(GO) build -o bin/fleet ./test/fleet/demo
	bin/fleet --choria bin/choria --logforward bin/logforward --ddl ddl

dist: ## Make dist/: archives (program, agent, machines, policy) and the signed specification for Choria's plugins watcher; DIST_URL, DIST_KEY, DIST_POLICY, DIST_MATCH, DIST_FLAGS
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags '-s -w $(LDFLAGS)' -o bin/logforward-linux-amd64 ./cmd/logforward
	$(GO) run ./machine/dist --program bin/logforward-linux-amd64 --release '$(or $(VERSION),devel)' --url '$(DIST_URL)' --key '$(DIST_KEY)' --match '$(DIST_MATCH)' $(if $(DIST_POLICY),--policy '$(DIST_POLICY)') $(DIST_FLAGS)

test: ## Vet and test everything, with the race detector; TESTS_AT_ONCE of a package
	test/prepare
	$(GO) vet ./...
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(GO) build -o "$$dir/logforward" ./cmd/logforward && \
		LOGFORWARD_TEST_BINARY="$$dir/logforward" $(GO) test -race -timeout $(TEST_TIME) -parallel $(TESTS_AT_ONCE) ./...
	cd test/report && $(GO) vet . && $(GO) test .

packages: ## Build dist/*.deb and *.rpm for amd64 and arm64; VERSION=1.2.3 as above
	cd packaging/build && $(GO) run . -version '$(VERSION)'

test-packages: ## Install, upgrade under load, remove and purge the packages, with real dpkg and rpm in roots of their own
	test/prepare packages
	cd packaging/build && $(GO) vet . && $(GO) test -timeout $(TEST_TIME) -skip Puppet .

test-puppet: ## Check the Puppet module, and apply it with a real Puppet in a root of its own; a real fleet of what it laid
	test/prepare puppet
	cd packaging/build && $(GO) vet . && $(GO) test -timeout $(TEST_TIME) -run Puppet .
	LOGFORWARD_ROLLOUT_TESTS=1 $(GO) test -timeout $(TEST_TIME) -run 'Puppet|Governor' ./test/fleet

test-alerts: ## Have Prometheus evaluate its alerts, docs/prometheus/alerts.yml; builds Prometheus' libraries, over a minute the first time
	cd test/alerts && $(GO) vet . && $(GO) test .

test-fleet: ## Test with real Choria brokers, servers and clients only
	$(GO) test -timeout $(TEST_TIME) ./test/fleet

test-machine: ## Test what happens to a node's daemon, and what its autonomous agent makes of it; some minutes
	test/prepare machine
	LOGFORWARD_MACHINE_TESTS=1 $(GO) test -timeout $(TEST_TIME) -parallel 4 -run 'Machine|Plugins|Quiet|Button' ./test/fleet

lint: ## Look for mistakes and leftovers with staticcheck
	$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK) ./...

model: ## Go through SCHEDULES schedules of the model of ownership and commit; LOGFORWARD_SEED repeats one
	LOGFORWARD_SCHEDULES=$(SCHEDULES) $(GO) test -run 'TestModel|TestPlanIsBalanced' -v -timeout 2h ./internal/receive

chaos: bin/choria ## Every fault on the built program, with CHAOS_ROUNDS seeds from CHAOS_SEED on (0: at random), and docs/correctness.md of it; then at random for CHAOS_SECONDS
	test/prepare
	$(GO) run ./test/chaos --fault '$(CHAOS_FAULT)' --seed $(CHAOS_SEED) --rounds $(CHAOS_ROUNDS) --matrix docs/correctness.md
	LOGFORWARD_CHAOS_SECONDS=$(CHAOS_SECONDS) $(GO) test -run UnderFaults -v -timeout 2h ./test/pipe
	LOGFORWARD_RANDOM_SECONDS=$(CHAOS_SECONDS) $(GO) test -run RandomFaultsOfATeam -v -timeout 2h ./internal/receive

mutants: ## Break the program on purpose, in the ways that MUTANTS names, and see make chaos find it; some minutes
	test/prepare
	$(GO) run ./test/chaos --mutants '$(MUTANTS)' --seed 1 --matrix docs/correctness.md

bench: bin/report ## Measure everything beside this machine's own limits, in a quarter of an hour, and write docs/performance.md; BENCH=regexp or QUICK=1: less, into bin/
	bin/report $(if $(BENCH)$(QUICK),-to bin) $(if $(BENCH),-bench '$(BENCH)') $(if $(QUICK),-quick)

bench-page: bin/report ## Make docs/performance.md anew of docs/performance/bench.txt
	bin/report -render

bench-parts: ## Measure the parts, each by itself
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./internal/... ./agent

bench-peers: ## Get rsyslog and syslog-ng from Debian into bin/peers, for make bench to compare with; installs nothing
	test/peers/install

bin/report: $(wildcard test/report/*.go test/report/*.tmpl) test/report/go.mod test/report/go.sum
	cd test/report && $(GO) build -buildvcs=false -o ../../$@ .

soak: ## Load and faults for HOURS (0.05 is three minutes); memory, descriptors, goroutines and disk mustn't grow; LOGFORWARD_SEED repeats a run
	LOGFORWARD_SOAK_HOURS=$(HOURS) $(GO) test -run '^TestSoak$$' -v -timeout 0 ./test/pipe

fuzz: ## Fuzz each parser for FUZZ_TIME
	@set -e; for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
		for name in $$(grep -hos '^func Fuzz[A-Za-z0-9]*' $$dir/*_test.go | sed 's/^func //'); do \
			echo "$$dir $$name"; (cd $$dir && $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZ_TIME) .); \
		done; \
	done

docs: build bin/choria ## Write docs/settings.md and the Puppet types from the settings, docs/metrics.md from what is shown, docs/json.md from what is printed, ddl/logforward.ddl from its JSON, the Puppet module's copies, and the machine's graph
	$(GO) test ./ddl -run TestRuby -update
	$(GO) test ./internal/settings -run TestPuppet -update
	$(GO) test ./cmd/logforward -run 'TestMetricsAreDocumented|TestJSONIsDocumented' -update
	install -D -m 0644 -t puppet/files/mcollective/agent ddl/logforward.json ddl/logforward.ddl
	bin/logforward config --markdown > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md
	HOME=$${HOME:-/} USER=$${USER:-root} bin/choria machine graph machine/logforward | LC_ALL=C awk -f docs/machine/graph.awk > docs/machine/graph.dot
	dot -Tsvg docs/machine/graph.dot -o docs/machine/graph.svg

clean: ## Remove what was built, and what run made
	rm -rf bin dist demo received
