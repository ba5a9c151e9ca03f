# Every target is one thing a person would type. `make help` lists them.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
DIRTY    ?= $(shell test -z "$$(git status --porcelain 2>/dev/null)" && echo false || echo true)
LDFLAGS  := -s -w -X main.buildVersion=$(VERSION) -X main.buildCommit=$(COMMIT) -X main.buildDirty=$(DIRTY)
FUZZTIME ?= 10s

.PHONY: help build demo test lint e2e fuzz golden clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

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

demo: build ## run the whole system on loopback, no root (ARGS=--once, ARGS='--hosts 3')
	bin/cis490 demo $(ARGS)

test: ## run everything that needs no root, with the race detector
	go vet ./...
	go test -race ./...

lint: ## run the linters
	go run $(GOLANGCI) run ./...
	go run $(GOLANGCI) run --build-tags e2e ./e2e/...

e2e: ## run the fleet lab: real systemd hosts, needs root (SCENARIO=name for one)
	go test -tags e2e -count=1 -timeout 35m -parallel 3 -v $(if $(SCENARIO),-run '$(SCENARIO)',) ./e2e/...

fuzz: ## run every fuzz target for FUZZTIME each
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go 2>/dev/null | cut -c6-); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

golden: ## write what the program prints today into golden files and scripts
	go test ./commands ./install/... -update

clean: ## remove what was built
	rm -rf bin dist
