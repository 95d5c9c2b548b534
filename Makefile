# clattice. `make help` lists the targets; `make run` and `make test` need nothing prepared.
#
# Everything built lies under $(BUILD). Sources are found by wildcard: a new file needs no line here.

VERSION  := 0.1.0
SOVERSION := 0

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
DOCDIR     ?= $(DATADIR)/doc/clattice
DESTDIR    ?=

KERNEL_DIR := $(DATADIR)/clattice/kernels

# ---- flags ---------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wpedantic -Wconversion $(WERROR)
override CPPFLAGS += -D_GNU_SOURCE -Iinclude -Isrc
override CFLAGS   += -std=c11 -fPIC -fvisibility=hidden -pthread $(WARNINGS) $(SANITIZE)
override LDFLAGS  += -pthread $(SANITIZE)
LIBS := -lOpenCL -ljansson -pthread -lm

# Other people's libraries that `clattice bench` compares with; each is used if it is installed.
peer = $(shell pkg-config --exists $(1) 2>/dev/null && echo $(1))
PEERS := $(call peer,clblast) $(call peer,openblas)
PEER_FLAGS := $(if $(filter clblast,$(PEERS)),-DHAVE_CLBLAST) \
              $(if $(filter openblas,$(PEERS)),-DHAVE_OPENBLAS)
PEER_FLAGS += $(if $(strip $(PEERS)),$(shell pkg-config --cflags $(PEERS)))
PEER_LIBS  := $(if $(strip $(PEERS)),$(shell pkg-config --libs $(PEERS)))

# ---- files ---------------------------------------------------------------------------------------

KERNELS      := $(shell find cl -name '*.cl' -o -name '*.clh' -o -name '*.json' | LC_ALL=C sort)
LIB_SOURCES  := $(sort $(wildcard src/*.c src/ops/*.c))
TOOL_SOURCES := $(sort $(wildcard tools/*.c))
TEST_SOURCES := $(sort $(wildcard tests/test_*.c))
TEST_HELPERS := $(filter-out $(TEST_SOURCES),$(sort $(wildcard tests/*.c)))

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJECTS    := $(call object,$(LIB_SOURCES)) $(BUILD)/obj/embedded_kernels.o
TOOL_OBJECTS   := $(call object,$(TOOL_SOURCES))
HELPER_OBJECTS := $(call object,$(TEST_HELPERS))
TESTS          := $(TEST_SOURCES:tests/%.c=$(BUILD)/tests/%)

STATIC_LIB := $(BUILD)/libclattice.a
SHARED_LIB := $(BUILD)/libclattice.so
SONAME     := libclattice.so.$(SOVERSION)
TOOL       := $(BUILD)/clattice

# One line for each command; V=1 shows them whole.
ifeq ($(V),)
    say = @printf '  %-6s %s\n' $(1) '$(2)';
endif

# ---- building ------------------------------------------------------------------------------------

.PHONY: all
all: $(STATIC_LIB) $(SHARED_LIB) $(if $(TOOL_SOURCES),$(TOOL)) ## build library and command (default)

$(STATIC_LIB): $(LIB_OBJECTS)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(SHARED_LIB): $(LIB_OBJECTS) src/libclattice.map
	$(call say,LD,$@)$(CC) -shared $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script,src/libclattice.map \
	    -o $(BUILD)/libclattice.so.$(VERSION) $(LIB_OBJECTS) $(LIBS)
	@ln -sf libclattice.so.$(VERSION) $(BUILD)/$(SONAME)
	@ln -sf $(SONAME) $@

# Found beside the build and, once installed, from BINDIR to LIBDIR.
TOOL_RPATH := $$ORIGIN:$$ORIGIN/$(shell realpath -m --relative-to=$(BINDIR) $(LIBDIR))

$(TOOL): $(TOOL_OBJECTS) $(SHARED_LIB)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -Wl,-rpath,'$(TOOL_RPATH)' -o $@ $(TOOL_OBJECTS) \
	    -L$(BUILD) -lclattice $(PEER_LIBS) $(LIBS)

$(TOOL_OBJECTS): override CPPFLAGS += $(PEER_FLAGS)
$(LIB_OBJECTS): override CPPFLAGS += -DCLATTICE_INSTALLED_KERNELS='"$(KERNEL_DIR)"'

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The copy of cl/ inside the library.
$(BUILD)/embedded_kernels.c: tools/embed.sh $(KERNELS) $(BUILD)/kernels
	$(call say,EMBED,cl/)tools/embed.sh $(KERNELS) >$@

$(BUILD)/obj/embedded_kernels.o: $(BUILD)/embedded_kernels.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Files that change only when what they record changes, so that other flags or a removed kernel
# rebuild what depends on them.
record = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || \
    printf '%s\n' '$(subst ','\'',$(1))' >$@

.PHONY: FORCE
$(BUILD)/flags: FORCE
	$(call record,$(CC) $(CPPFLAGS) $(CFLAGS) $(PEER_FLAGS) $(KERNEL_DIR))
$(BUILD)/kernels: FORCE
	$(call record,$(KERNELS))

# ---- running and testing -------------------------------------------------------------------------

.PHONY: setup
setup: ## install missing packages (NO_INSTALL=1: only list them)
	@CC='$(CC)' tools/setup.sh

# Set-up may bring what the variables above look for, so the work behind it is a second make.
again = +@$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

.PHONY: run
run: setup ## install what is missing, build, show a first result
	$(again) all
	@CLATTICE_KERNEL_DIR=cl $(TOOL) demo

.PHONY: test test-full test-programs
test: setup ## build and run all tests; T=gemm: only tests/test_gemm*
	$(again) all test-programs
	@BUILD='$(BUILD)' T='$(T)' CC='$(CC)' tests/run.sh $(TESTS) $(TEST_SCRIPTS)

test-full: export CLATTICE_TEST_FULL = 1
test-full: test ## the same with the slow sweeps

test-programs: $(filter $(BUILD)/tests/test_$(T)%,$(TESTS))

# Against the static library, so that internals can be tested too. Helpers come from an archive: a
# program gets those it uses.
$(BUILD)/tests/helpers.a: $(HELPER_OBJECTS)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(BUILD)/tests/test_%: $(BUILD)/obj/tests/test_%.o $(BUILD)/tests/helpers.a $(STATIC_LIB)
	$(call say,LD,$@)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

$(call object,$(TEST_SOURCES) $(TEST_HELPERS)): override CPPFLAGS += -Itests \
    -DHARNESS_BUILD_DIR='"$(abspath $(BUILD))"' -DHARNESS_KERNEL_DIR='"$(CURDIR)/cl"'

.PHONY: bench
bench: setup ## build and run the default benchmarks
	$(again) all
	@CLATTICE_KERNEL_DIR=cl $(TOOL) bench

.PHONY: clean
clean: ## remove everything built
	rm -rf $(BUILD)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.DELETE_ON_ERROR:
.SECONDARY:

-include $(patsubst %.o,%.d,$(LIB_OBJECTS) $(TOOL_OBJECTS) $(HELPER_OBJECTS) \
    $(call object,$(TEST_SOURCES)))
