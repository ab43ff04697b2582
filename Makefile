# Every target works on a fresh Debian 12 machine as root and says what it installs.
# Caches live outside the checkout: what is built once stays, keyed by version.
export PENSTOCK_CACHE ?= $(HOME)/.cache/penstock
export CARGO_TARGET_DIR ?= $(PENSTOCK_CACHE)/target
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Most tests wait most of the time: so many keep the processors busy.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: check
check: debian ## Format, clippy with warnings as errors, pure tests (a minute or two when warm)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins --test generated --test manifests --test properties

.PHONY: test
test: parts ## Everything: clippy, pure tests, and the tests against real parts
	cargo fmt --all --check
	@echo "== clippy"
	cargo clippy --workspace --all-targets -- -D warnings
	@echo "== build"
	cargo build --workspace --all-targets
	@$(MAKE) --no-print-directory planted
	@echo "== tests"
	cargo test --workspace --no-fail-fast

# Always the whole workspace: one crate alone would choose other features for its dependencies, and build many again.
.PHONY: build
build: debian ## Build all programs
	cargo build --workspace

# A program beside the others, which nobody ships: the checker is tested on its bugs.
.PHONY: planted
planted: debian
	cargo build --workspace --features penstock-sidecar/planted-bugs --bin penstock-sidecar-planted

.PHONY: demo
demo: build ## See it work: send over MQTT and HTTP, see the receipts, find each message in the log
	@e2e/parts/build.sh clients
	@e2e/demo.sh

.PHONY: dev
dev: build ## Serve docs/examples/quickstart.yaml with an embedded broker until Ctrl-C
	@e2e/demo.sh --serve

.PHONY: parts
parts: ## Install Debian packages; build or fetch Kafka, Kubernetes and what else tests start (6 minutes once)
	e2e/parts/build.sh

.PHONY: debian
debian:
	@e2e/parts/build.sh debian

MINUTES ?= 5
SEED ?= 1
.PHONY: campaign
campaign: parts build ## Break and mend real parts under load for MINUTES (5) by SEED (1), and check what was acknowledged
	"$(CARGO_TARGET_DIR)/debug/campaign" --minutes $(MINUTES) --seed $(SEED) $(CAMPAIGN_ARGS)

# The image's build of the sidecar: without the embedded broker. The result is in target/bench.json.
.PHONY: bench
bench: ## Measure CPU, rate, latency and memory beside a bare producer, mosquitto and a bare HTTP server (7 minutes)
	@e2e/parts/build.sh debian kafka etcd kubernetes node containerd helm coredns
	@echo "== release build"
	cargo build --release -p penstock-sidecar -p penstock-operator -p penstock-e2e --no-default-features \
	  --features penstock-sidecar/counted-allocations --bin penstock-sidecar --bin penstock-operator --bin bench
	@echo "== measurement: leave the machine alone meanwhile"
	"$(CARGO_TARGET_DIR)/release/bench" $(BENCH_ARGS)

.PHONY: image
image: debian ## Write the container images, as OCI image layouts in tar files, into target/images (no container engine)
	cargo build --release -p penstock-sidecar -p penstock-operator -p penstock-e2e --no-default-features --bins
	"$(CARGO_TARGET_DIR)/release/image" sidecar operator

.PHONY: cluster
cluster: parts build ## Hold a Kubernetes cluster of one node until Ctrl-C (as root; nothing of it stays)
	"$(CARGO_TARGET_DIR)/debug/cluster"

.PHONY: generate
generate: debian ## Write what is made of the types: CRD, reference page, chart, plain manifests (tests fail while stale)
	PENSTOCK_UPDATE=1 cargo test --workspace --test generated
	e2e/parts/build.sh helm
	PENSTOCK_UPDATE=1 cargo test --workspace --test real chart::data::the_plain_manifests

.PHONY: deny
deny: ## Licenses, bans and sources of all dependencies (cargo-deny, built into the cache)
	e2e/parts/build.sh cargo-deny
	PATH="$(PENSTOCK_CACHE)/parts/cargo-deny-$$(. e2e/parts/versions.env; echo $$CARGO_DENY)/bin:$$PATH" \
	  cargo deny --workspace check bans licenses sources

.PHONY: clean-cache
clean-cache: ## Remove built parts and the cargo target folder of the cache
	rm -rf "$(PENSTOCK_CACHE)/parts" "$(PENSTOCK_CACHE)/target"
