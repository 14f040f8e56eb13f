# make         builds bin/dsvault
# make demo    shows the main job (DEMO=PATH shows it with your own file or folder)
# make test    checks everything; installs what that needs on Debian
# make help    lists the rest

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := build

GO       ?= go
PARALLEL ?= 2
ROUNDS   ?= 3
S3       ?= minio
DEMO     ?=
FUZZTIME ?= 20s
BENCH    ?= .
OPS      ?= 1000000
TIME     ?= 0s
SEED     ?= 0
PAUSE    ?= 3s

# Test programs live outside the checkout, so that every clone shares them.
DSVAULT_TEST_BIN := $(or $(DSVAULT_TEST_BIN),$(HOME)/.cache/dsvault-test/bin)
export DSVAULT_TEST_BIN
BIN := $(DSVAULT_TEST_BIN)

# The tests fill small file systems and change roots, so their programs run as
# root; what compiles them does not.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
EXEC := $(if $(SUDO),-exec "sudo -E env PATH=$(PATH) HOME=$(HOME) GOCACHE=$(BIN)/../root-go-build")
# A raced program waits a second before it ends, and the tests start many.
TEST := GORACE=atexit_sleep_ms=0 DSVAULT_TEST_REQUIRE=1 $(GO) test -count=1 -v -p $(PARALLEL) $(EXEC)

.PHONY: build help demo test soak linearizability bench bench-peers bench-nodes bench-scale fuzz fmt vet staticcheck layers tidy unit interop packages tools clean

build: ## build bin/dsvault, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/dsvault ./cmd/dsvault

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## show the main job on a vault of its own
	$(GO) run ./cmd/dsvault demo $(DEMO)

test: packages fmt vet tools staticcheck layers tidy unit interop ## check everything, in about 20 minutes on 2 cores

soak: packages tools ## the tests in their long form, three times, then long fuzzing
	DSVAULT_TEST_FULL=1 CGO_ENABLED=1 $(TEST) -race -count=3 -timeout 6h ./... | awk "$$SUMMARY"
	$(MAKE) fuzz FUZZTIME=10m

linearizability: packages ## a million operations on three nodes while things break, each checked (OPS, TIME=30m, SEED, PAUSE between faults)
	DSVAULT_TEST_REQUIRE=1 $(GO) test -count=1 -run '^TestLinearizable$$' -v -timeout 24h ./cmd/dsvault -args \
		-linearizable-ops $(OPS) -linearizable-time $(TIME) -linearizable-seed $(SEED) -linearizable-pause $(PAUSE) -linearizable-keep $(CURDIR)/bin/linearizability

bench: ## run the benchmarks (BENCH=regexp chooses)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -p 1 -timeout 1h ./... | grep -v 'no test files'

fuzz: ## fuzz every target for FUZZTIME
	@$(GO) list -f '{{.Dir}}' ./... | while read -r dir; do \
		for target in $$(cd "$$dir" && grep -hoE '^func Fuzz[A-Za-z0-9_]+' *_test.go 2>/dev/null | cut -d' ' -f2); do \
			echo "fuzz $${dir#$(CURDIR)/} $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -parallel $(PARALLEL) "$$dir" </dev/null; \
		done; \
	done

fmt: ## fail if gofmt would change a file
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt these files:"; echo "$$unformatted"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...
	$(GO) vet -tags peers ./cmd/dsvault

staticcheck: tools ## staticcheck
	$(BIN)/staticcheck ./...

layers: tools ## the direction of imports: the linter's rule, and the test that holds the rule
	$(BIN)/depguard ./...
	$(GO) test -count=1 -run '^TestLayers' ./cmd/dsvault

tidy: ## fail if go mod tidy would change go.mod or go.sum
	$(GO) mod tidy -diff

# Tests that run without the race detector, in a step of their own: those that
# measure, and those that try thousands of cases one after the other, or start
# hundreds of programs. Concurrency is what the others are about.
UNRACED := ^(TestLinearizable|TestDatabaseGone|TestStoreGone|TestNodeGone|TestFullDatabaseDisk|TestOverload|TestScale|TestStalledBeforeFirstByte|TestStalledInMidstream|TestStorageMigrate|TestNodesShareKeys|TestMemory|TestLongLog|TestScripts|TestEveryStatementFails|TestEveryStatementOfAReadFails|TestEraseGoesOn|TestReviewGoesOnAfterCrash|TestListings|TestNoNamesInLeaves|TestCasbinAgreesEverywhere|TestMutants|TestGuardrails|TestWorldAgainstOracle|TestPartialDecidesLikeWhole|TestReadsNeedEverythingInOrder)$$

unit: packages tools ## go test, with nothing skipped, and with -race but for UNRACED
	CGO_ENABLED=1 $(TEST) -race -skip '$(UNRACED)' -timeout 40m ./... | awk "$$SUMMARY"
	CGO_ENABLED=0 $(TEST) -run '$(UNRACED)' -timeout 20m ./rbac ./vault ./cmd/dsvault | awk "$$SUMMARY"

interop: ## what other people's tools say of the log, and of the examples in docs/deploy, in modules of their own
	cd vault/notary/interop && $(GO) vet ./... && $(GO) test -count=1 -timeout 5m ./...
	cd docs/deploy/check && $(GO) vet ./... && $(GO) test -count=1 -timeout 5m ./...

clean: ## remove what make built here
	rm -rf bin

# SUMMARY turns the output of go test -v into one line a package and the whole
# output of those that fail. A test that was skipped is a failure.
define SUMMARY
function flush() { printf "%s", held; held = ""; fflush() }
/^=== (RUN|PAUSE|CONT|NAME)/ { next }
/^ *--- PASS/ { passed++; next }
/^ *--- SKIP/ { skipped++; held = held $$0 "\n"; skips = skips $$0 "\n"; next }
/^PASS$$/ { next }
/^ok  \t/ { if (held ~ /--- SKIP/) flush(); held = ""; packages++; print; fflush(); next }
/^\?   \t|\[no test files\]$$/ { held = ""; next }
/^(FAIL|---|panic)/ { failed = 1 }
/^FAIL\t/ { flush(); print; fflush(); next }
{ held = held $$0 "\n" }
END {
	flush()
	printf "%d tests passed in %d packages, %d skipped\n", passed, packages, skipped
	if (skipped) printf "These were skipped, and none may be:\n%s", skips
	exit skipped > 0 || failed || packages == 0
}
endef
export SUMMARY

# What the tests need of the machine.
packages:
	@need=(); \
	command -v git >/dev/null || need+=(git ca-certificates); \
	command -v curl >/dev/null || need+=(curl ca-certificates); \
	command -v wget >/dev/null || need+=(wget ca-certificates); \
	command -v gcc >/dev/null || need+=(gcc); \
	[ -e /usr/include/stdlib.h ] || need+=(libc6-dev); \
	command -v strace >/dev/null || need+=(strace); \
	[ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null || need+=(haproxy); \
	command -v systemd-analyze >/dev/null || need+=(systemd); \
	compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null || need+=(postgresql); \
	if [ $${#need[@]} -gt 0 ]; then \
		command -v apt-get >/dev/null || { echo "the tests need: $${need[*]}"; exit 1; }; \
		apt() { $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qy "$$@" </dev/null; }; \
		apt install --no-install-recommends "$${need[@]}" || { apt update; apt install --no-install-recommends "$${need[@]}"; }; \
	fi

# What the tests need of the module proxy. The first time takes minutes.
TOOLS := \
	github.com/versity/versitygw/cmd/versitygw@v1.8.0 \
	github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c \
	github.com/rclone/rclone@v1.76.0 \
	filippo.io/age/cmd/...@v1.3.2 \
	honnef.co/go/tools/cmd/staticcheck@v0.8.2 \
	github.com/OpenPeeDeeP/depguard/v2/cmd/depguard@v2.3.0

RESTIC := github.com/restic/restic/cmd/restic@v0.18.1

# One stamp for each tool and version: "/" is not for file names.
stamp  = $(BIN)/.installed/$(subst /,_,$(1))
tools: $(foreach tool,$(TOOLS),$(call stamp,$(tool)))

define install
$(call stamp,$(1)):
	@mkdir -p $$(@D)
	GOBIN=$(BIN) GOFLAGS= CGO_ENABLED=0 $$(GO) install $(1)
	@touch $$@
endef
$(foreach tool,$(TOOLS) $(RESTIC),$(eval $(call install,$(tool))))

bench-peers: tools $(call stamp,$(RESTIC)) ## compare with rclone, restic and others (ROUNDS, S3=versitygw), and write docs/benchmarks.md
	$(GO) test -tags peers -count=1 -run '^TestPeers$$' -v -timeout 1h ./cmd/dsvault -args -peers-rounds $(ROUNDS) -peers-s3 $(S3) -peers-report $(CURDIR)/docs/benchmarks.md

bench-nodes: packages ## three nodes behind haproxy beside one, and write docs/benchmarks.md
	$(GO) test -tags peers -count=1 -run '^TestNodes$$' -v -timeout 20m ./cmd/dsvault -args -nodes-report $(CURDIR)/docs/benchmarks.md

bench-scale: packages ## fill a large catalog on each engine, measure, and write docs/benchmarks.md (TMPDIR: 10 GB)
	$(GO) test -count=1 -run '^TestScale$$' -v -timeout 2h ./cmd/dsvault -args -scale-whole -scale-report $(CURDIR)/docs/benchmarks.md
