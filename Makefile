# Two commands: `make demo` shows hookward at work, `make test` is everything a contributor runs.
# Each installs what is missing, or says what to install.
.PHONY: demo test lint bench bench-outage build tools clean

CARGO ?= cargo

demo: tools
	$(CARGO) run --quiet --release -- demo --once

build: tools
	$(CARGO) build --release

test: lint
	$(CARGO) test --lib --bins --tests

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

# Prints ack latency at 1,000 events/s, memory and the time to be ready.
bench: tools
	$(CARGO) bench --bench load

# Takes the app down for HOOKWARD_BENCH_OUTAGE_S seconds at HOOKWARD_BENCH_RATE events/s and prints
# what its return is like.
bench-outage: tools
	$(CARGO) bench --bench outage

# pingora's zlib needs cmake and a C compiler, SQLite the compiler.
tools:
	@./.ci/tools

clean:
	$(CARGO) clean
