# Typhon's front door: `make` lists what there is. Every target sets up what it needs first (scripts/setup).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test musl matrix valgrind bench fuzz soak hostile foreign nightly check format clean

# Elixir wants UTF-8 file names; a bare machine has no locale set.
ifeq ($(LC_ALL)$(LC_CTYPE)$(LANG),)
export LC_ALL := C.UTF-8
endif

SECONDS ?= 60
MINUTES ?= 10
ROOTS ?= trixie
SUITES ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install everything the other targets need (Debian 12 or newer, as root), or say what is missing
	@scripts/setup $@

build: ## compile the native parts into priv/ and the Elixir code
	@scripts/setup $@
	@mix compile

demo: ## a tour on real data: train and query a scikit-learn model from Elixir
	@scripts/setup $@
	@scripts/demo

test: ## every test: C++, Python (each version found), Elixir
	@scripts/setup $@
	@scripts/test

matrix: ## the tests in a bare Debian of ROOTS="trixie" (with newer Erlang, Elixir, Python, g++), made by mmdebstrap; as root. Before, those of musl for AArch64
	@scripts/setup $@
	@scripts/musl aarch64
	@scripts/matrix $(ROOTS)

musl: ## the C++ tests of what needs no Python, Erlang or Ruby, static against musl
	@scripts/setup $@
	@scripts/musl

valgrind: ## the interpreters in namespaces under memcheck
	@scripts/setup $@
	@scripts/valgrind

bench: ## measure against the floors; tables here, JSON in bench/results/
	@scripts/setup $@
	@scripts/bench

fuzz: ## run each fuzz target for SECONDS=60
	@scripts/setup $@
	@scripts/fuzz $(SECONDS)

soak: ## everything at once with faults for MINUTES=10; wrong answers, hung calls and leaks must be 0
	@scripts/setup $@
	@scripts/soak --minutes $(MINUTES)

hostile: ## workers that store at random into the memory they share with the BEAM, for SECONDS=60
	@scripts/setup $@
	@scripts/hostile $(SECONDS)

foreign: ## CPython's own tests, numpy's, pandas' and scikit-learn's in workers; SUITES="cpython numpy" runs some (an hour or more for all)
	@scripts/setup $@
	@scripts/foreign $(SUITES)

nightly: ## the long searches: each fuzz target, each stress test, the soak and the foreign suites for MINUTES=10, all isolations with each Python
	@scripts/setup $@
	@scripts/nightly $(MINUTES)

check: ## formatters, warnings as errors, clang-tidy, layers, dialyzer, mypy, shellcheck
	@scripts/setup $@
	@scripts/check

format: ## rewrite the sources as the formatters want them
	@scripts/setup $@
	@mix format
	@git ls-files --cached --others --exclude-standard '*.h' '*.cpp' '*.c' | xargs clang-format -i

clean: ## remove everything that was built
	rm -rf _build priv compat/*/priv/python/*/__pycache__
