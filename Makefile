# clattice. `make help` lists the targets; `make run` and `make test` need nothing prepared.
#
# Everything built lies under $(BUILD). Sources are found by wildcard: a new file needs no line here.

VERSION   := $(shell sed -n 's/^.define CLAT_VERSION_[A-Z]* //p' include/clattice/clattice.h | paste -sd.)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

BUILD    ?= build
CC       ?= cc
CFLAGS   ?= -O2 -g
WERROR   ?= -Werror
SANITIZE ?=
JOBS     ?= $(shell nproc)

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share
DESTDIR    ?=

PKGDATADIR := $(DATADIR)/clattice
KERNEL_DIR := $(PKGDATADIR)/kernels

# ---- flags ---------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wpedantic -Wconversion $(WERROR)
ALL_CPPFLAGS = -D_GNU_SOURCE -Iinclude -Isrc -Icl $(OWN_CPPFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = -std=c11 -fPIC -fvisibility=hidden -pthread $(WARNINGS) $(SANITIZE) $(CFLAGS) \
    $(OWN_CFLAGS)
ALL_LDFLAGS  = -pthread $(SANITIZE) $(LDFLAGS)
LIBS := -lOpenCL -ljansson -pthread -lm

# What `clattice bench` compares with. The library needs none; without them there is no command.
# Debian's oneDNN has no pkg-config file.
PEERS := clblast openblas
HAVE_PEERS := $(shell pkg-config --exists $(PEERS) 2>/dev/null && \
    echo '\#include <dnnl.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes)
ifdef HAVE_PEERS
    PEER_CFLAGS := $(shell pkg-config --cflags $(PEERS)) \
        -DCLBLAST_VERSION=$(shell pkg-config --modversion clblast)
    PEER_LIBS   := $(shell pkg-config --libs $(PEERS)) -ldnnl -ldl
endif

# ---- files ---------------------------------------------------------------------------------------

KERNELS      := $(shell find cl -name '*.cl' -o -name '*.clh' -o -name '*.json' | LC_ALL=C sort)
LIB_SOURCES  := $(sort $(wildcard src/*.c src/ops/*.c))
TOOL_SOURCES := $(sort $(wildcard tools/*.c))
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_HELPERS := $(filter-out $(TEST_SOURCES),$(sort $(wildcard tests/*.c)))
TEST_SCRIPTS := $(sort $(wildcard tests/test_*.sh))
VENDOR_SOURCES := $(sort $(wildcard tests/vendors/*.c))

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJECTS    := $(call object,$(LIB_SOURCES)) $(BUILD)/obj/embedded_kernels.o
TOOL_OBJECTS   := $(call object,$(TOOL_SOURCES))
TEST_OBJECTS   := $(call object,$(TEST_SOURCES))
HELPER_OBJECTS := $(call object,$(TEST_HELPERS))
VENDOR_OBJECTS := $(call object,$(VENDOR_SOURCES))
TESTS          := $(TEST_SOURCES:tests/%.c=$(BUILD)/tests/%)

STATIC_LIB := $(BUILD)/libclattice.a
SHARED_LIB := $(BUILD)/libclattice.so
SONAME     := libclattice.so.$(SOVERSION)
REAL_NAME  := libclattice.so.$(VERSION)
TOOL       := $(BUILD)/clattice

# ---- building ------------------------------------------------------------------------------------

# One line for each command; V=1 shows them whole.
ifeq ($(V),)
    say = @printf '  %-6s %s\n' $(1) '$(2)';
endif

.PHONY: all lib tool
all: lib tool ## build the library and the command (default)

lib: $(STATIC_LIB) $(SHARED_LIB) ## build only the library

ifdef HAVE_PEERS
tool: $(TOOL)
else
tool:
	@echo 'The command clattice is not built: it needs $(PEERS) dnnl. "make setup" installs them.'
endif

$(STATIC_LIB): $(LIB_OBJECTS)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(SHARED_LIB): $(LIB_OBJECTS) src/libclattice.map
	$(call say,LD,$@)$(CC) -shared $(ALL_LDFLAGS) -Wl,-soname,$(SONAME) \
	    -Wl,--version-script,src/libclattice.map -o $(BUILD)/$(REAL_NAME) $(LIB_OBJECTS) $(LIBS)
	@ln -sf $(REAL_NAME) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $@

# Finds the library beside itself and, once installed, in LIBDIR.
TOOL_RPATH = $$ORIGIN:$$ORIGIN/$(shell realpath -m --relative-to=$(BINDIR) $(LIBDIR))

$(TOOL): $(TOOL_OBJECTS) $(SHARED_LIB) $(BUILD)/prefix
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -Wl,-rpath,'$(TOOL_RPATH)' -o $@ $(TOOL_OBJECTS) \
	    -L$(BUILD) -lclattice $(PEER_LIBS) $(LIBS)

# The only object that knows where kernels will be installed.
$(call object,src/source.c): OWN_CPPFLAGS := -DCLATTICE_INSTALLED_KERNELS='"$(KERNEL_DIR)"'
$(call object,src/source.c): $(BUILD)/prefix
$(TOOL_OBJECTS): OWN_CPPFLAGS := $(PEER_CFLAGS)
# The loops of peers are to be vectors, whatever CFLAGS says.
$(call object,tools/host_loops.c): OWN_CFLAGS := -O3 -ffast-math
$(TEST_OBJECTS) $(HELPER_OBJECTS) $(VENDOR_OBJECTS): OWN_CPPFLAGS := -Itests \
    -DHARNESS_BUILD_DIR='"$(abspath $(BUILD))"' -DHARNESS_KERNEL_DIR='"$(CURDIR)/cl"'

compile = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(compile)

# The copy of cl/ inside the library.
$(BUILD)/obj/embedded_kernels.o: $(BUILD)/embedded_kernels.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(compile)

$(BUILD)/embedded_kernels.c: tools/embed.sh $(KERNELS) $(BUILD)/kernels $(BUILD)/flags
	$(call say,EMBED,cl/)tools/embed.sh $(KERNELS) >$@

# Files that change only when what they record changes: other flags or a removed kernel rebuild what
# depends on them.
record = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' >$@.new; \
    cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.PHONY: FORCE
$(BUILD)/flags: FORCE
	$(call record,$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(PEER_CFLAGS))
$(BUILD)/prefix: FORCE
	$(call record,$(KERNEL_DIR) $(TOOL_RPATH))
$(BUILD)/kernels: FORCE
	$(call record,$(KERNELS))

# ---- running and testing -------------------------------------------------------------------------

.PHONY: setup
setup: ## install missing packages (NO_INSTALL=1: only list them)
	@CC='$(CC)' tools/setup.sh

# Set-up may bring what the variables above look for: what comes after it is a second make.
jobs = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))
again = +@$(MAKE) --no-print-directory $(jobs)

.PHONY: run
run: setup ## install what is missing, build, show a first result
	$(again) all
	@CLATTICE_KERNEL_DIR=cl $(TOOL) demo

.PHONY: setup-test test test-full test-programs
setup-test:
	@CC='$(CC)' tools/setup.sh test

test: setup-test ## build and run all tests; T=gemm: only tests/test_gemm*
	$(again) $(if $(T),,all) test-programs
	@BUILD='$(BUILD)' T='$(T)' tests/run.sh $(TESTS) $(TEST_SCRIPTS)

test-full: export CLATTICE_TEST_FULL = 1
test-full: test vendors ## the same with the slow sweeps, and vendors with all of them: hours

# Without the test scripts: nothing in them depends on the device.
test_with = @BUILD='$(BUILD)' tests/with_opencl.sh $(1) \
    env BUILD='$(BUILD)/$(1)' T='$(T)' tests/run.sh $(TESTS)

.PHONY: test-rusticl test-intel-cpu
test-rusticl: setup ## run the tests on rusticl, Mesa's OpenCL, on the CPU; T= as for test
	$(again) $(if $(T),,all) test-programs
	$(call test_with,rusticl)

test-intel-cpu: setup ## run the tests on Intel's OpenCL for CPUs; T= as for test
	$(again) $(if $(T),,all) test-programs
	$(call test_with,intel-cpu)

test-programs: $(filter $(BUILD)/tests/test_$(T)%,$(TESTS))

# Against the static library, so that internals can be tested too. Helpers come from an archive: a
# program gets those it uses.
$(BUILD)/tests/helpers.a: $(HELPER_OBJECTS)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(BUILD)/tests/test_%: $(BUILD)/obj/tests/test_%.o $(BUILD)/tests/helpers.a $(STATIC_LIB)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

$(BUILD)/tests/test_tool: | tool # it runs the command

# Programs for devices that are not at hand: what the host would build there, compiled by the
# vendors' compilers.
VENDORS := $(BUILD)/vendors

.PHONY: vendors vendor-sources
vendors: setup ## compile kernels for Intel, AMD and NVIDIA GPUs and to SPIR-V, judge what comes out
	@CC='$(CC)' tools/setup.sh vendors
	@tests/vendors/toolchains.sh $(VENDORS)/tools
	$(again) vendor-sources
	@rm -rf $(VENDORS)/programs && mkdir -p $(VENDORS)/programs
	@$(VENDORS)/sources $(VENDORS)/programs >$(VENDORS)/sources.log || \
	    { cat $(VENDORS)/sources.log; exit 1; }
	@tests/vendors/test_check.py $(VENDORS)/tools
	@JOBS='$(JOBS)' tests/vendors/check.py $(VENDORS)/programs $(VENDORS)/tools $(VENDORS)/report.json

vendor-sources: $(VENDORS)/sources

$(VENDORS)/sources: $(VENDOR_OBJECTS) $(BUILD)/tests/helpers.a $(STATIC_LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

.PHONY: bench
bench: setup ## build and run the default benchmarks
	$(again) all
	@CLATTICE_KERNEL_DIR=cl $(TOOL) bench

# One suite each, its results kept, then put into the document: SUITES=decode for one of them. The
# suites of GPUs have a card of their own, and that its own line of the document.
SUITES ?= gemm-square gemm-f64 gemm-clblast gemm-sizes skinny batched storage native \
    attention-table sparse decode overhead
GPU_SUITES ?= gpu-gemm gpu-gemm-sizes gpu-gemm-tokens gpu-gemm-mma gpu-tf32 gpu-tf32-mma gpu-sgemm \
    gpu-sparse gpu-decode
MASKS := causal window:128,128 longformer:128,48 dilated:64,4 strided:128,128 fixed:128,16 logsparse:64 \
    sinks:16,256 prefix:500 documents:7 bigbird:64,3 bslongformer:64,1,1 bswindow:64,3 bsfixed:64,4,1 csr:64,0.15
CURVES := gemm attention-64 attention-64-causal attention-128 attention-128-causal
PLOTS := $(CURVES) $(CURVES:%=gpu-%) sparse gpu-sparse
BENCH_FLAGS ?=
TORCH_FLAGS ?=
RESULTS ?= docs/benchmarks

# suites, commands that measure more, name of the file that tells of the machine
measure = @mkdir -p $(RESULTS); export CLATTICE_KERNEL_DIR=cl; failed=0; for suite in $(1); do \
        printf '\n==== %s\n' $$suite; \
        $(TOOL) bench $$suite $(BENCH_FLAGS) --json $(RESULTS)/$$suite.json || failed=1; \
    done; $(2) \
    $(TOOL) info --json $(RESULTS)/$(3).json >/dev/null && \
        sed -i -E 's/("(cache_dir|tuned_file|kernel_dir)": ")[^"]*/\1/' $(RESULTS)/$(3).json && \
        $(TOOL) report --markdown docs/benchmarks.md $(RESULTS)/*.json && exit $$failed

# Attention by what is best on the card, of short sequences and other heads, by `mma`, and under masks
# that only FlexAttention has too.
define beside_torch
python3 tools/bench_torch.py $(TORCH_FLAGS) --json $(RESULTS)/gpu-attention.json || failed=1; \
python3 tools/bench_torch.py $(TORCH_FLAGS) --json $(RESULTS)/gpu-attention-short.json \
    --dtype f16 --seq 512,1024 || failed=1; \
python3 tools/bench_torch.py $(TORCH_FLAGS) --json $(RESULTS)/gpu-attention-dims.json \
    --dtype f16 --seq 4096 --head-dim 256,96 || failed=1; \
python3 tools/bench_torch.py $(TORCH_FLAGS) --json $(RESULTS)/gpu-attention-mma.json \
    --implementation mma || failed=1; \
python3 tools/bench_torch.py $(TORCH_FLAGS) --json $(RESULTS)/gpu-attention-sparse.json \
    --peer flex --seq 16384 --mask sliding-256,sliding-1024,longformer-256-64,bigbird-64-3,blocks-128-10 || failed=1;
endef

.PHONY: benchmarks benchmarks-gpu
benchmarks: setup ## measure all that docs/benchmarks.md shows of CPUs (SUITES=decode: only that)
	$(again) all
	$(call measure,$(SUITES),,machine)

benchmarks-gpu: setup ## the same on an NVIDIA card, with cuBLAS and PyTorch
	$(again) all
	$(call measure,$(GPU_SUITES),$(beside_torch),gpu-machine)

.PHONY: plots
plots: ## draw the pictures in docs: curves of what `make benchmarks` measured, masks
	@CC='$(CC)' tools/setup.sh plots
	$(again) tool
	@mkdir -p docs/plots
	@for plot in $(PLOTS); do \
	    $(TOOL) report --plot $$plot $(RESULTS)/*.json >$(BUILD)/$$plot.gp && \
	        gnuplot $(BUILD)/$$plot.gp >docs/plots/$$plot.svg || exit 1; \
	done
	@for mask in $(MASKS); do \
	    $(TOOL) mask --mask $$mask --seq-q 2048 --tile-q 32 \
	        --svg docs/plots/mask-$${mask%%:*}.svg >/dev/null || exit 1; \
	done

# ---- checking ------------------------------------------------------------------------------------

# Kernels that PoCL compiled for `make test` are used again: its compiler is slow under a sanitizer.
# ASan: cmocka's own handler would hide where a crash happened. The suppressions name drivers only.
SANITIZER_ENVIRONMENT := TEST_TIMEOUT=1800 \
    POCL_CACHE_DIR='$(abspath $(BUILD))/test-cache/pocl' \
    ASAN_OPTIONS=allow_user_segv_handler=0:detect_stack_use_after_return=1 \
    LSAN_OPTIONS=suppressions='$(CURDIR)/tests/lsan.supp':print_suppressions=0 \
    UBSAN_OPTIONS=print_stacktrace=1
sanitized_test = +@$(SANITIZER_ENVIRONMENT) $(MAKE) --no-print-directory test \
    TEST_SCRIPTS= WERROR=

.PHONY: asan
asan: setup ## run the tests under the address and undefined-behaviour sanitizers
	$(sanitized_test) T='$(T)' BUILD='$(BUILD)/asan' CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	    SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined'

.PHONY: tsan
tsan: setup ## run the stress tests under the thread sanitizer; T= as for test
	$(sanitized_test) T='$(or $(T),threads)' BUILD='$(BUILD)/tsan' CFLAGS='-O1 -g' \
	    SANITIZE=-fsanitize=thread

C_FILES := $(wildcard include/clattice/*.h src/*.[ch] src/ops/*.[ch] tools/*.[ch] tests/*.[ch] \
    tests/doubles/*.c tests/vendors/*.[ch] docs/examples/*.[ch])
SHELL_FILES := $(wildcard tools/*.sh tests/*.sh tests/vendors/*.sh) .ci/run

.PHONY: lint lint-format lint-clang lint-tidy lint-shell
lint: ## check layout, clang's warnings, clang-tidy, the header as C++, shell scripts
	@CC='$(CC)' tools/setup.sh lint
	$(again) lint-format lint-clang lint-tidy lint-shell

lint-format:
	clang-format --dry-run -Werror $(C_FILES)

lint-clang:
	+@$(MAKE) --no-print-directory lib tool test-programs vendor-sources CC=clang \
	    BUILD='$(BUILD)/clang'
	clang -x c++ -std=c++11 -Wall -Wextra -fsyntax-only include/clattice/clattice.h

# status.c defines what tests/tidy.h redefines.
lint-tidy:
	clang-tidy --quiet src/status.c -- $(TIDY_FLAGS) 2>/dev/null
	printf '%s\n' $(filter-out src/status.c,$(filter %.c,$(C_FILES))) | xargs -P $(JOBS) -n 4 sh -c \
	    'clang-tidy --quiet "$$@" -- -include tests/tidy.h $(TIDY_FLAGS) 2>/dev/null' clang-tidy

TIDY_FLAGS = -std=c11 $(ALL_CPPFLAGS) -Itests $(PEER_CFLAGS) -DHARNESS_BUILD_DIR=\"\" \
    -DHARNESS_KERNEL_DIR=\"\" -DCLATTICE_INSTALLED_KERNELS=\"\"

lint-shell:
	shellcheck $(SHELL_FILES)

.PHONY: format
format: ## lay out all C files with clang-format
	@CC='$(CC)' tools/setup.sh lint
	clang-format -i $(C_FILES)

# ---- installing ----------------------------------------------------------------------------------

INSTALL_DATA    := install -m 644
INSTALL_PROGRAM := install -m 755
to = $(DESTDIR)$(1)

.PHONY: install uninstall
install: all ## install below PREFIX (/usr/local); DESTDIR, LIBDIR, ... as usual
	install -d $(call to,$(INCLUDEDIR)/clattice) $(call to,$(LIBDIR)/pkgconfig)
	$(INSTALL_DATA) include/clattice/clattice.h $(call to,$(INCLUDEDIR)/clattice)
	$(INSTALL_DATA) $(STATIC_LIB) $(call to,$(LIBDIR))
	$(INSTALL_PROGRAM) $(BUILD)/$(REAL_NAME) $(call to,$(LIBDIR))
	ln -sf $(REAL_NAME) $(call to,$(LIBDIR)/$(SONAME))
	ln -sf $(SONAME) $(call to,$(LIBDIR)/libclattice.so)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' src/clattice.pc.in \
	    >$(call to,$(LIBDIR)/pkgconfig/clattice.pc)
	for file in $(KERNELS:cl/%=%); do \
	    $(INSTALL_DATA) -D cl/$$file $(call to,$(KERNEL_DIR))/$$file || exit 1; \
	done
ifdef HAVE_PEERS
	$(INSTALL_PROGRAM) -D $(TOOL) $(call to,$(BINDIR)/clattice)
endif
	$(if $(DESTDIR),,-[ "$$(id -u)" -ne 0 ] || ldconfig)

uninstall: ## remove what install put there
	rm -f '$(call to,$(LIBDIR)/libclattice.a)' '$(call to,$(LIBDIR)/libclattice.so)' \
	    '$(call to,$(LIBDIR)/$(SONAME))' '$(call to,$(LIBDIR)/$(REAL_NAME))' \
	    '$(call to,$(LIBDIR)/pkgconfig/clattice.pc)' '$(call to,$(BINDIR)/clattice)'
	rm -rf '$(call to,$(INCLUDEDIR)/clattice)' '$(call to,$(PKGDATADIR))'

# ---- the rest ------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove everything built
	rm -rf $(BUILD)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.DELETE_ON_ERROR:
.SECONDARY:

-include $(patsubst %.o,%.d,$(LIB_OBJECTS) $(TOOL_OBJECTS) $(HELPER_OBJECTS) $(TEST_OBJECTS) \
    $(VENDOR_OBJECTS))
