# Two commands: `make demo` shows hookward at work, `make test` is everything a contributor runs.
# Each installs what is missing, or says what to install.
.PHONY: demo test test-sdk test-charts test-k8s test-faults soak image lint bench bench-parts bench-end-to-end bench-report \
        bench-instructions bench-events bench-outage fuzz build tools test-tools clean

CARGO ?= cargo

demo: tools
	$(CARGO) run --quiet --release -- demo --once

build: tools
	$(CARGO) build --release

# With the switches of the fault tests, so that one build serves lint, tests and `test-faults`.
test: test-tools lint
	$(CARGO) test --features faults --lib --bins --test blackbox --test instructions --test powerfs --test tidy --test vectors

# Apps as others write them against the real binary: the official Telnyx SDKs and libraries of Standard Webhooks
# (pinned, below target/sdk), the verifiers of docs/apps.md in six languages, and sites of four ecosystems on their own servers.
test-sdk: tools
	@./.ci/tools sdk
	./tests/sdk/install
	$(CARGO) test --features faults --test blackbox -- --ignored sdk:: sites:: verifiers::

# Charts, alerts and dashboard alone, with the debug build: no image, no Docker.
test-charts: tools
	@./.ci/tools k8s
	$(CARGO) build --quiet --features faults
	cd tests/k8s && HOOKWARD=../../target/debug/hookward ../../target/k8s-tools/venv/bin/python -m unittest -v \
	  test_charts test_kustomize test_monitoring test_templates test_values

# Charts, alerts, dashboard and image: rendered, judged, built and run. As root, for dockerd; its tools
# (helm, kustomize; pinned, below target/k8s-tools) take some minutes the first time.
test-k8s:
	@./.ci/tools k8s
	./deploy/image/build
	cd tests/k8s && ../../target/k8s-tools/venv/bin/python -m unittest -v

# hookward:VERSION for this kind of machine; `docker build .` alone compiles inside instead.
VERSION := $(shell sed -n '0,/^version = /s/^version = "\(.*\)"/\1/p' Cargo.toml)
image:
	@./.ci/tools image
	./deploy/image/build
	DOCKER_BUILDKIT=1 docker build --build-arg BINARY=prebuilt \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag hookward:$(VERSION) .

# What is done to a running hookward, and what is lost by it: nothing. Prints a table. A third of the cycles of
# each fault with `make test-faults EFFORT=--few`.
EFFORT ?=
test-faults: tools
	@./.ci/tools faults
	PROPTEST_CASES=2000 $(CARGO) test --quiet --features faults --lib whatever_is_called
	$(CARGO) test --quiet --features faults --lib every_byte -- --ignored
	$(CARGO) test --quiet --features faults --test faults -- $(EFFORT)

# The same with seed after seed for so many minutes, ten times the cycles each.
MINUTES ?= 60
soak: tools
	@./.ci/tools faults
	$(CARGO) test --quiet --lib in_orders -- --ignored
	$(CARGO) test --quiet --features faults --test faults -- --soak $(MINUTES)

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features faults -- -D warnings

bench: bench-parts bench-end-to-end

# hookward beside nginx with Lua that checks the same: cost, latency, memory, and what they grow with.
# Twelve minutes, on a machine that does nothing else; prints tables. See docs/performance.md.
bench-end-to-end: test-tools
	$(CARGO) bench --bench end_to_end

# The same, and writes the tables and plots of docs/performance.md.
bench-report: test-tools
	HOOKWARD_BENCH_REPORT=1 $(CARGO) bench --bench end_to_end

# Prints the times of the parts of a request; of some with `make bench-parts PARTS=signature`.
bench-parts: tools
	$(CARGO) bench --bench parts -- $(PARTS)

# Counts the instructions of the parts of a request and fails if they are more than in
# benches/instructions/baseline.json, which `make bench-instructions UPDATE=1` writes anew. Of the code that is
# shipped: the static binary's, whose dependencies `deploy/image/build` has compiled where it has run.
bench-instructions:
	@./.ci/tools bench
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) run --profile bench --target $$(uname -m)-unknown-linux-gnu --example instructions

# Every fuzz target for 30 s; another time with `make fuzz SECONDS=300`, a count of inputs with `make fuzz RUNS=20000`.
SECONDS ?= 30
fuzz:
	@./.ci/tools fuzz
	FUZZ_RUNS=$(RUNS) ./fuzz/run $(SECONDS)

# Prints how long lists of a buffer of a million events take while 2,000 events/s come in; needs 2 GB.
bench-events: tools
	$(CARGO) bench --bench events

# Takes the app down for HOOKWARD_BENCH_OUTAGE_S seconds at HOOKWARD_BENCH_RATE events/s and prints
# what its return is like.
bench-outage: tools
	$(CARGO) bench --bench outage

# pingora's zlib needs cmake and a C compiler, SQLite the compiler.
tools:
	@./.ci/tools

# A real nginx (with Lua) and a server in Python stand around hookward; strace lets syncs fail.
test-tools:
	@./.ci/tools test

clean:
	$(CARGO) clean
