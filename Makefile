# The commands of this repository. `make` alone lists them.
#
# `make build` needs Go and Node; `make test` installs what else the tests need
# (scripts/install-test-tools.sh).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The two cores that continuous integration has are better used by the
# compilers' own parallelism than by several of these recipes at once.
.NOTPARALLEL:

UI := topology-ui
UI_BUILT := $(UI)/dist/index.html
UI_MODULES := $(UI)/node_modules/.package-lock.json
# What the built application depends on; a change of a test rebuilds it too,
# which costs seconds and needs no second list.
UI_SOURCES := $(shell find $(UI)/src $(UI)/public -type f 2>/dev/null) \
	$(addprefix $(UI)/,index.html package.json package-lock.json tsconfig.json vite.config.ts)

BINARIES := ./cmd/mesh-proxy ./cmd/mesh-hub ./cmd/meshctl ./examples/bookinfo
# All that runs is built in one way, vetted as it is built: a package that two
# builds share is then compiled once, which is most of the time of a first build.
GO_BUILD := CGO_ENABLED=0 go build -trimpath
# Object storage is tested against this server.
S3_SERVER := bin/tools/versitygw
GOLANGCI_LINT = $(shell command -v golangci-lint || echo bin/tools/golangci-lint)

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

.PHONY: build
build: need-go ui ## the binaries, into bin/
	$(GO_BUILD) -ldflags '-s -w' -o bin/ $(BINARIES)

.PHONY: demo
demo: build ## the whole mesh on this machine, until Ctrl-C
	exec bin/meshctl demo

.PHONY: ui
ui: $(UI_BUILT) ## the web UI, which the hub embeds

.PHONY: test
test: tools conformance-tools $(S3_SERVER) build ## everything that continuous integration runs
	CGO_ENABLED=0 go vet -trimpath ./...
	TELEMESH_TEST_TOOLS=installed go test -race -vet=off ./...
	cd $(UI) && npm test && npm run lint
	$(run-e2e)

.PHONY: test-unit
test-unit: $(S3_SERVER) ui ## the tests without real processes of ours: Go with -race, and the UI's
	go test -race ./...
	cd $(UI) && npm test

.PHONY: e2e
e2e: tools conformance-tools build ## real processes and a real browser
	$(run-e2e)

# -count=1: what these tests depend on are processes, which the test cache
# cannot see.
define run-e2e
go test -race -count=1 -tags e2e -timeout 20m ./internal/e2e/...
endef

ROUNDS ?= 5
DURATION ?= 5s

.PHONY: bench-proxy
bench-proxy: build ## CPU a request against nginx, haproxy and nghttpx; ROUNDS= and DURATION= shorten it
	scripts/install-test-tools.sh bench
	go run ./internal/benchproxy -rounds $(ROUNDS) -duration $(DURATION)

.PHONY: bench-proxy-more
bench-proxy-more: build ## large bodies, a low rate, a second core, an idle sidecar
	scripts/install-test-tools.sh bench
	for what in body pace cores idle; do go run ./internal/benchproxy -rounds $(ROUNDS) -duration $(DURATION) $$what || exit 1; done

.PHONY: bench-upgrade
bench-upgrade: build ## upgrades of mesh-proxy under 5,000 requests a second; DURATION= of the load
	go run ./internal/benchproxy -duration $(DURATION) upgrade

FUZZTIME ?= 10m
FUZZ ?= proxy internal/ids api policy-check telemetry-hub cmd

.PHONY: fuzz
fuzz: need-go ## every fuzzer in turn, FUZZTIME each; FUZZ= the folders
	for p in $$(grep -rl '^func Fuzz' --include=*_test.go $(FUZZ) | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$p/*_test.go | cut -c6-); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$p || exit 1; \
		done; \
	done

.PHONY: bench-hub
bench-hub: RECORDS = 2000000
bench-hub: build $(S3_SERVER) ## what keeping and finding every request costs the hub; RECORDS= of it
	go run ./internal/benchhub -records $(RECORDS)

.PHONY: kill-hub
kill-hub: KILLS = 200
kill-hub: build ## ends a hub under load at random moments, and looks whether all is there; KILLS= of it
	go run ./internal/benchhub -rounds $(KILLS) kill

.PHONY: full-hub
full-hub: build ## has a hub run out of disk under load, and looks whether all is there; needs root
	go run ./internal/benchhub full

.PHONY: growth-hub
growth-hub: RECORDS = 10000000
growth-hub: build ## how a hub's cost grows with senders and with records, up to RECORDS=
	go run ./internal/benchhub -records $(RECORDS) growth

.PHONY: share-hub
share-hub: ROUNDS = 12
share-hub: build $(S3_SERVER) ## two hubs share a bucket and are killed and lost in turn, and looks whether all is there; ROUNDS= of it
	go run ./internal/benchhub -rounds $(ROUNDS) share

.PHONY: bench-policy
bench-policy: build ## what limits cost and how well they are kept, simulated and measured
	go run ./internal/benchpolicy

.PHONY: soak
soak: DURATION = 10m
soak: build ## kills and stalls under mixed traffic, every request accounted for; DURATION= and SEED= of it
	go build -o bin/tools/soak ./internal/soak
	bin/tools/soak -duration $(DURATION) $(if $(SEED),-seed $(SEED))

.PHONY: soak-test
soak-test: build ## half a minute of the same, plain and over mutual TLS
	go test -race -count=1 -tags e2e,soak -run TestSoak -v ./internal/e2e

.PHONY: compat
compat: build ## sidecars of revision REV= with this hub, and the reverse, counts and look-ups compared
	scripts/compat.sh '$(REV)'

.PHONY: h2spec
h2spec: conformance-tools build ## HTTP/2 conformance of both listeners, by h2spec
	go test -count=1 -tags e2e -run TestH2Spec -v ./internal/e2e

.PHONY: grpc-interop
grpc-interop: conformance-tools build ## gRPC's interoperability cases through two sidecars
	go test -count=1 -tags e2e -run TestGRPCInterop -v ./internal/e2e

.PHONY: tools
tools: need-node ## installs what the tests need from Debian and npm, if it is missing
	scripts/install-test-tools.sh

.PHONY: lint
lint: need-go $(UI_MODULES) ## golangci-lint and eslint
	@command -v golangci-lint >/dev/null || $(MAKE) --no-print-directory bin/tools/golangci-lint
	$(GOLANGCI_LINT) run ./...
	cd $(UI) && npm run lint

# Built from its own module, so that its many dependencies choose no version of
# ours.
bin/tools/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@echo 'building golangci-lint, which takes some minutes the first time'
	cd tools/lint && go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

CONFORMANCE_TOOLS := bin/tools/h2spec bin/tools/grpc-interop-client bin/tools/grpc-interop-server

.PHONY: conformance-tools
conformance-tools: need-go $(CONFORMANCE_TOOLS)

# From a module of their own too.
bin/tools/h2spec: PACKAGE = github.com/summerwind/h2spec/cmd/h2spec
bin/tools/grpc-interop-client: PACKAGE = google.golang.org/grpc/interop/client
bin/tools/grpc-interop-server: PACKAGE = google.golang.org/grpc/interop/server
$(CONFORMANCE_TOOLS): tools/conformance/go.mod tools/conformance/go.sum
	cd tools/conformance && $(GO_BUILD) -o ../../$@ $(PACKAGE)

$(S3_SERVER): tools/s3/go.mod tools/s3/go.sum | need-go
	@echo 'building an S3 server for the tests, which takes a minute or two the first time'
	cd tools/s3 && $(GO_BUILD) -o ../../$@ github.com/versity/versitygw/cmd/versitygw

.PHONY: generate
generate: need-go ## Go from the protobuf contracts, TypeScript from the JSON API
	@command -v protoc >/dev/null || { echo 'make generate: protoc is missing; install it (Debian: apt-get install protobuf-compiler) and try again' >&2; exit 1; }
	api/generate.sh

.PHONY: check-generated
check-generated: generate ## fails when generated code is not what its source says
	@git diff --exit-code -- api $(UI)/src/api || { echo 'make check-generated: generated code was stale; review the diff above and commit it' >&2; exit 1; }

.PHONY: clean
clean: ## removes what was built
	rm -rf bin tools/duckdb/node_modules $(UI)/node_modules $(UI)/test-results $(UI)/playwright-report
	find $(UI)/dist -mindepth 1 ! -name .gitkeep -delete

.PHONY: need-go
need-go:
	@command -v go >/dev/null || { echo 'Go is missing: install the version that go.mod names from https://go.dev/dl and try again' >&2; exit 1; }

.PHONY: need-node
need-node:
	@command -v npm >/dev/null || { echo 'Node is missing: install Node 20.19 or later with npm from https://nodejs.org and try again' >&2; exit 1; }
	@node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
		|| { echo "Node $$(node --version) is too old: install Node 20.19 or later and try again" >&2; exit 1; }

# npm writes this file last. The touch makes it newer than the lock file even
# when npm keeps an old time.
$(UI_MODULES): $(addprefix $(UI)/,package.json package-lock.json .npmrc) | need-node
	cd $(UI) && npm ci || { echo 'the UI'"'"'s packages could not be installed: see npm'"'"'s message above; it needs a reachable npm registry (npm config get registry)' >&2; exit 1; }
	touch $@

$(UI_BUILT): $(UI_MODULES) $(UI_SOURCES) | need-node
	cd $(UI) && npm run build || { echo 'the UI could not be built: see the message above; `cd $(UI) && npm run build` runs this step alone' >&2; exit 1; }
	touch $@
