# Every target is one thing a person would type. `make help` lists them.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM      := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
VERSION  ?= $(shell git describe --tags --always --abbrev=12 --dirty=+dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
DIRTY    ?= $(shell test -z "$$(git status --porcelain 2>/dev/null)" && echo false || echo true)
LDFLAGS  := -s -w -X main.buildVersion=$(VERSION) -X main.buildCommit=$(COMMIT) -X main.buildDirty=$(DIRTY)
FUZZTIME ?= 10s
LANES    ?= 8
HOURS    ?= 1
SEEDS    ?= 50
DAYS     ?= 2
HOSTS    ?= 3

.PHONY: help build dist demo test lint lint-api e2e sim sim-off soak incidents-off older docs-check fuzz golden bench bench-compare figures crashtest store-size versitygw clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

# CA=root.pem is built in: hosts of such a binary trust it where they know no pin.
# The source tree stays as it is.
ifdef CA
OVERLAY := -overlay bin/ca-overlay.json
endif

build: ## build bin/cis490 for this machine (CA=root.pem: with a CA that hosts trust)
ifdef CA
	@grep -q 'BEGIN CERTIFICATE' '$(CA)' && ! grep -q 'PRIVATE KEY' '$(CA)' || \
	  { echo 'CA=$(CA): want a file with certificates in PEM, and no key in it' >&2; exit 1; }
	@mkdir -p bin && printf '{"Replace": {"%s": "%s"}}\n' '$(CURDIR)/assets/ca/root.pem' '$(abspath $(CA))' >bin/ca-overlay.json
endif
	CGO_ENABLED=0 go build -trimpath $(OVERLAY) -ldflags '$(LDFLAGS)' -o bin/cis490 .

RELEASE  ?= dist/$(VERSION)
SEQ      ?= $(shell git rev-list --count HEAD 2>/dev/null)
PLATFORMS := linux-amd64 linux-arm64 linux-arm

# The same commit and the same Go give the same bytes, wherever it is built: nothing
# of the builder's own settings counts, and a tree that differs is refused.
REPRODUCIBLE := CGO_ENABLED=0 GOENV=off GOFLAGS= GOWORK=off GOEXPERIMENT= GOFIPS140=off GOAMD64=v1 GOARM64=v8.0 GOARM=7

dist: ## build every platform into RELEASE=dist/VERSION and sign it (SEQ=number, EXPERIMENT=file)
	@test '$(DIRTY)' = false || { git status --short >&2; \
	  echo 'make dist: the files above differ from the commit; commit or remove them, then run make dist again' >&2; exit 1; }
	@rm -rf '$(RELEASE)' && mkdir -p '$(RELEASE)' && go mod download
	@set -e; for p in $(PLATFORMS); do echo "build $$p"; \
	  $(REPRODUCIBLE) GOOS=$${p%-*} GOARCH=$${p#*-} \
	    go build -trimpath -buildvcs=false $(OVERLAY) -ldflags '$(LDFLAGS) -buildid=' -o '$(RELEASE)'/cis490-$$p .; done
	@test -z '$(EXPERIMENT)' || cp '$(EXPERIMENT)' '$(RELEASE)'/experiment.toml
	@go run -buildvcs=false . release sign --seq '$(SEQ)' --version '$(VERSION)' --commit '$(COMMIT)' '$(RELEASE)'
	@$(MAKE) --no-print-directory packages RELEASE='$(RELEASE)' SEQ='$(SEQ)' VERSION='$(VERSION)'
	@echo 'next: copy $(RELEASE) to the receiver, and run there: sudo cis490 release publish $(notdir $(RELEASE))'

# A tag v1.2.3 is version 1.2.3, five commits later 1.2.3+5.gHASH, no tag 0~SEQ.gHASH.
PKG_VERSION ?= $(shell echo '$(VERSION)' | sed -E 's/^v//; s/-([0-9]+)-g([0-9a-f]+)$$/+\1.g\2/; s/^([^0-9]|[0-9a-f]{7,}$$)/0~$(SEQ).g\1/; s/-/~/g')
PKG_MAINTAINER ?= $(shell git config user.name 2>/dev/null || echo unknown) <$(shell git config user.email 2>/dev/null || echo root@localhost)>

.PHONY: packages
packages: ## add to RELEASE: deb, rpm, sbom.cdx.json and NOTICES
	@go list -deps -json=Module . | GOROOT="$$(go env GOROOT)" go run ./assets/notices >'$(RELEASE)'/NOTICES
	@go run $(CYCLONEDX) bin -json -licenses -std -noserial -version 'v$(PKG_VERSION)' -output '$(RELEASE)'/sbom.cdx.json '$(RELEASE)'/cis490-$(firstword $(PLATFORMS))
	@set -e; for p in $(PLATFORMS); do for kind in deb rpm; do echo "package $$p $$kind"; \
	  arch=$${p#*-}; test $$arch != arm || arch=arm7; \
	  SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)" PKG_ARCH=$$arch PKG_VERSION='$(PKG_VERSION)' PKG_MAINTAINER='$(PKG_MAINTAINER)' \
	    PKG_BINARY='$(RELEASE)'/cis490-$$p PKG_NOTICES='$(RELEASE)'/NOTICES \
	    go run $(NFPM) package -f assets/package/nfpm.yaml -p $$kind -t '$(RELEASE)'/cis490_'$(PKG_VERSION)'_$${p#*-}.$$kind; \
	done; done
	@cd '$(RELEASE)' && sha256sum cis490_* NOTICES sbom.cdx.json >SHA256SUMS

demo: build ## run the whole system on loopback, no root (ARGS=--once, ARGS='--hosts 3')
	bin/cis490 demo $(ARGS)

test: ## run everything that needs no root, with the race detector
	go vet ./...
	GORACE=atexit_sleep_ms=10 go test -race -timeout 25m ./...

lint: ## run the linters
	go run $(GOLANGCI) run ./...
	go run $(GOLANGCI) run --build-tags e2e,soak ./e2e/...
	go run $(GOLANGCI) run --build-tags solo ./e2e/solo ./commands
	go run $(GOLANGCI) run --build-tags off ./e2e/off
	GOARCH=arm go build ./...

lint-api: ## check docs/openapi.yaml with Redocly (needs npm)
	npx --yes @redocly/cli@2.11.1 lint --config docs/redocly.yaml docs/openapi.yaml

e2e: ## run the fleet lab: real systemd hosts, needs root (SCENARIO=name for one, LANES=8 side by side, the longest first, STORE=s3: tarballs in an object store, STORE=cluster: rows in PostgreSQL, too)
	@failed=0; for p in ./e2e ./e2e/lab ./e2e/solo; do \
	  CIS490_LAB_STORE='$(STORE)' go test -tags e2e -count=1 -timeout 90m -parallel $(LANES) -v $(if $(SCENARIO),-run '$(SCENARIO)',) $$p || failed=1; done; exit $$failed

soak: ## ten hosts under random faults for HOURS, needs root (HOURS=0.25, SEED=n to repeat)
	CIS490_SOAK_HOURS='$(HOURS)' CIS490_SOAK_SEED='$(SEED)' go test -tags 'e2e soak' -count=1 -timeout 0 -v -run '^TestSoak$$' ./e2e

sim: ## play a fleet in one process, SEEDS=50 of DAYS=2 with HOSTS=3; SEED=n is one with its trace (SHRINK=rule: its smallest plan, PACE=1: intervals as installed)
	CIS490_SIM_SEEDS='$(if $(SEED),0,$(SEEDS))' CIS490_SIM_SEED='$(SEED)' CIS490_SIM_SHRINK='$(SHRINK)' CIS490_SIM_FROM='$(FROM)' \
	  CIS490_SIM_DAYS='$(DAYS)' CIS490_SIM_HOSTS='$(HOSTS)' CIS490_SIM_ONLY='$(ONLY)' CIS490_SIM_PACE='$(PACE)' GOGC=800 \
	  go test -count=1 -timeout 0 -v -run '^(TestSim|TestSeed|TestFlat)$$' ./e2e/sim

incidents-off: ## show that each incident's scenario fails without what heals it (INCIDENT=04 for one)
	go test -tags off -count=1 -timeout 120m -parallel 3 -v -run '^TestOff$$/^$(INCIDENT)' ./e2e/off

sim-off: ## show by which seed and rule the simulator notices that a healing part is missing (INCIDENT=04 for one)
	go test -tags off -count=1 -timeout 0 -v -run '^TestSimOff$$/^$(INCIDENT)' ./e2e/off

older: ## let an older version open the files of this one, as after a rollback, and the other way round
	go test -tags solo -count=1 -v -run '^TestOlder_' ./commands

docs-check: ## follow README and docs word by word on fresh lab hosts, needs root
	go test -count=1 -run '^(TestDocs_|TestPage_)' ./commands ./internal/config
	go test -count=1 -v -parallel 9 -run '^TestSchemas_' ./agent/orchestrate -episodes 1000
	go test -tags duckdb -count=1 -v -run '^TestDuckDB_' ./receiver/export
	go test -tags e2e -count=1 -timeout 15m -v -run '^(TestReadme|TestDocs|TestGrowing|TestPages_.*)$$' ./e2e

fuzz: ## run every fuzz target for FUZZTIME each
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go 2>/dev/null | cut -c6-); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

golden: ## write what the program prints today into golden files and scripts
	go test ./commands ./install ./internal/config ./internal/dictionary -update

bench: SHELL := /bin/bash
bench: ## measure speed and memory beside peers (PEER=path of rest-server, BENCH=part of a name) and keep the figures in bin/bench
	@mkdir -p bin/bench; set -o pipefail; { \
	  go test -tags solo -count=1 -timeout 30m -v -run '^TestBench_$(BENCH)' ./e2e/solo && \
	  go test -run '^$$' -bench '^Benchmark$(BENCH)' -benchtime 1x -timeout 60m ./agent/orchestrate ./commands ./receiver/export ./receiver/catalogue && \
	  go test -run '^$$' -bench '^Benchmark$(BENCH)' -benchtime 20x -timeout 30m ./receiver/web; \
	} | tee "bin/bench/$$(date -u +%Y-%m-%dT%H%M%SZ)-$(VERSION).txt"

bench-compare: ## compare two runs of make bench (OLD=file NEW=file; else the last two)
	@go run $(BENCHSTAT) $(if $(OLD),$(OLD) $(NEW),$$(ls bin/bench/*.txt | tail -2))

figures: ## write the tables of docs/performance.md from the last run of make bench
	@go run ./e2e/figures "$$(ls bin/bench/*.txt | tail -1)" docs/performance.md

crashtest: ## fail, cut power and kill at every step, and 200 times in earnest
	go test -count=1 -v -run '^TestCrash_' ./receiver/store ./receiver/archive ./internal/ledger
	go test -count=1 -timeout 30m -v -run '^(TestCrash_|TestFault_)' ./receiver/s3 -every
	go test -count=1 -timeout 30m -v -run '^TestFault_' ./receiver/pg -every
	go test -tags solo -count=1 -timeout 30m -v -run '^TestKill_' ./e2e/solo
	KILLS=200 go test -tags solo -count=1 -timeout 30m -v -run '^TestCluster_' ./e2e/solo
	go test -count=1 -timeout 30m -v -run '^TestModel' ./agent/ship -steps 5000 -seeds 10
	go test -count=1 -timeout 30m -v -run '^TestShip_Killed' ./commands -kills 200
	go test -count=1 -timeout 60m -v -run '^TestStore_Killed' ./commands -store-kills 200
	go test -count=1 -timeout 60m -v -run '^TestLedger_Killed' ./commands -ledger-kills 200

store-size: ## send 4 GiB slowly to an object store, and copy 100,000 episodes there and back, killed 20 times (needs 13 GiB)
	go test -count=1 -timeout 180m -v -run '^TestStore_(LargeAndSlow|CopyMany)$$' ./commands -store-large -store-episodes 100000

versitygw: ## build the S3 server for tests of the object store, once (about 6 minutes)
	GOBIN="$${XDG_CACHE_HOME:-$$HOME/.cache}/cis490-lab/versitygw-v1.8.0" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

clean: ## remove what was built
	rm -rf bin dist
