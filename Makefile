# A thin front for CMake: the targets that people type. `make help` lists them.

PREFIX ?= /usr/local
SOURCES = $(shell git ls-files '*.c' '*.h' '*.cpp' '*.hpp' | grep -v unicode_tables)

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 16

demo: release ## install what is missing, build, and run the built-in model
	@echo
	@echo '$$ llcuda infer -p "What is 47 + 38?"'
	@./build/release/src/cli/llcuda infer -p "What is 47 + 38?"
	@echo

packages: ## install the Debian packages that the build needs
	@YES=$(YES) scripts/install-packages

release: packages ## build the program: build/release/src/cli/llcuda
	@cmake --preset release -DENABLE_TESTS=OFF >/dev/null
	@cmake --build --preset release

check: ## install what is missing, build, and run every test (minutes)
	@YES=$(YES) scripts/install-packages check
	@scripts/check

check-long: check check-threads ## and the long tests
	@ctest --preset release -L long

check-threads: ## run what threads share under ThreadSanitizer (no fibres of the emulated GPU)
	@cmake --preset tsan >/dev/null
	@cmake --build --preset tsan
	@ctest --preset tsan -R '^(cpu_pool|engine_(model|request|sleep|threads)|net_|server_(devices|limits|models|serve|talk)|bench_monitor)'

check-kernels: ## compile every GPU kernel with the vendors' compilers and report registers
	@cmake --preset release >/dev/null
	@cmake --build --preset release --target check_kernels
	@build/release/tests/gpu/check_kernels --verbose

check-gpu: ## run the kernel tests on the machine's first NVIDIA GPU
	@cmake --preset release >/dev/null
	@cmake --build --preset release
	@LLCUDA_TEST_DEVICE=cuda ctest --preset release -L gpu

install: release ## install under PREFIX (default /usr/local)
	@cmake --install build/release --prefix $(PREFIX)

format: ## format every C and C++ file
	@clang-format -i $(SOURCES)

lint: ## static analysis with clang-tidy and gcc -fanalyzer (slow)
	@scripts/lint

fuzz: ## run every libFuzzer target for a minute (needs clang)
	@scripts/fuzz

clean: ## remove the build folder
	@rm -rf build

.PHONY: help demo packages release check check-long check-threads check-kernels check-gpu install format lint fuzz clean
