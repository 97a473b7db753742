# pgprojector. `make help` lists what there is.
#
# One file, not recursive but where a goal first installs what it needs (test, demo) or builds another flavour (lint, fuzz).
# Each flavour has a build directory of its own: build, build-clang, build-address-undefined …

ifeq ($(origin CC),default)
CC        := gcc
endif
comma     := ,
SAN       ?=
BUILD     := build$(if $(findstring clang,$(notdir $(CC))),-clang)$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PREFIX    ?= /usr/local
DESTDIR   ?=
PG_BIN    ?= /usr/lib/postgresql/15/bin
PYTHON    ?= /usr/bin/python3
VERSION   := 0.1.0

PKGS      := libpq libuv jansson inih libxxhash
DEPS      := build-essential pkg-config libpq-dev libuv1-dev libjansson-dev libinih-dev libxxhash-dev \
             libcriterion-dev postgresql-15 postgresql-15-wal2json openssl python3 python3-psycopg2 python3-pytest \
             python3-pytest-xdist
LINT_DEPS := clang clang-format clang-tidy libclang-rt-14-dev

# Goals that need no installed libraries work, and parse this file, before `make deps`.
BARE      := help deps lint-deps clean test demo bench soak
ifneq ($(filter-out $(BARE),$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
endif

WARNINGS  := -Wall -Wextra -Werror -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
# gcc's warnings of array bounds and formats are not reliable once a sanitizer has rewritten the code (its manual says so).
WARNINGS  += $(if $(SAN),-Wno-error)
HARDENING := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
CFLAGS    ?= -O2 -g
SANITIZE  := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -DPJ_VERSION='"$(VERSION)"' $(WARNINGS) $(HARDENING) $(CFLAGS) \
              -Iengine -Iengine/include -I$(BUILD)/gen $(PKG_CFLAGS) $(SANITIZE)
ALL_LDFLAGS := -pie -Wl,-z,relro,-z,now $(LDFLAGS) $(SANITIZE)
ALL_LIBS  := $(PKG_LIBS) -lm -ldl -lpthread
MODULE_CFLAGS := -std=c17 $(WARNINGS) $(CFLAGS) -fPIC -fvisibility=hidden -Iengine/include $(SANITIZE)
MODULE_LDFLAGS := -shared $(if $(SAN),,-Wl,-z,defs) $(LDFLAGS)

LAYERS    := base wire pg host core app
SOURCES   := $(foreach layer,$(LAYERS),$(wildcard engine/$(layer)/*.c))
OBJECTS   := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/gen/sql.o
LIB       := $(BUILD)/libengine.a
PROGRAM   := $(BUILD)/pgprojector
# Examples are built beside the modules that are deployed by default, not among them.
EXAMPLE_NAMES := conversation_days messages_per_day user_unread
MODULE_NAMES := $(filter-out $(EXAMPLE_NAMES),$(sort $(patsubst projections/%/,%,$(dir $(wildcard projections/*/*.c)))))
MODULES   := $(MODULE_NAMES:%=$(BUILD)/projections/%.so)
EXAMPLES  := $(EXAMPLE_NAMES:%=$(BUILD)/examples/%.so)
TEMPLATES := $(addprefix engine/app/template/,module.c Makefile test.json)
SQL       := $(wildcard sql/*.sql)
UNIT      := $(patsubst test/unit/%.c,$(BUILD)/test/%,$(wildcard test/unit/*.c))
BENCH_TOOLS := $(patsubst test/bench/%.c,$(BUILD)/bench/%,$(wildcard test/bench/*.c))
FUZZ      := $(patsubst test/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard test/fuzz/*.c))
C_FILES   := $(wildcard engine/*/*.[ch] projections/*/*.[ch] test/*/*.[ch])

# Says what it does, not how; V=1 says how.
ifeq ($(V),)
quiet      = @printf '  %-5s %s\n' $(1) $@;
endif

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all help deps lint-deps unit test test-unit test-integration lint lint-format format lint-layers lint-tidy lint-clang \
        demo bench bench-tools soak fuzz fuzz-programs install uninstall clean

all: $(PROGRAM) $(MODULES) $(EXAMPLES) ## the daemon and the shipped projection modules (default)

help:                             ## this list
	@echo 'Goals (make GOAL [VARIABLE=value]):'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r goal text; do \
	  printf '  %-17s %s\n' "$$goal" "$$text"; done
	@echo 'Variables: V=1  CC=gcc|clang  SAN=address,undefined  CFLAGS="-O2 -g"  PREFIX=/usr/local  DESTDIR='

# ------------------------------------------------------------------------------------------------------------ installing

# Asks for sudo only where something is missing and we are not root. Debian's PostgreSQL package would create and start a
# server of its own: where none of its packages is there yet, it is told not to, just for this installation.
define install_packages
	@missing=; for package in $(1); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get > /dev/null || { echo "please install the equivalents of:$$missing" >&2; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing:$$missing"; \
	quiet=/etc/postgresql-common/createcluster.d/pgprojector-build.conf; \
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then \
	  $$sudo mkdir -p $${quiet%/*} && echo 'create_main_cluster = false' | $$sudo tee $$quiet > /dev/null; fi; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	code=$$?; $$sudo rm -f $$quiet; exit $$code
endef

deps:                             ## install what building and testing need (Debian 12 packages)
	$(call install_packages,$(DEPS))

lint-deps:                        ## install what `make lint` and `make fuzz` need
	$(call install_packages,$(LINT_DEPS))

# -------------------------------------------------------------------------------------------------------------- building

$(LIB): $(filter-out $(BUILD)/engine/app/main.o,$(OBJECTS))
	$(call quiet,AR)rm -f $@; $(AR) rcs $@ $^

$(PROGRAM): $(BUILD)/engine/app/main.o $(LIB)
	$(call quiet,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/%.o: %.c | $(BUILD)/gen/sql.h $(BUILD)/gen/template.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Each sql/NAME.sql becomes the string pj_sql_NAME.
$(BUILD)/gen/sql.c: $(SQL) Makefile
	@mkdir -p $(@D)
	$(call quiet,SQL){ echo '#include "sql.h"'; for file in $(SQL); do name=$$(basename $$file .sql); \
	  echo "const char pj_sql_$$name[] ="; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/    "/' -e 's/$$/\\n"/' $$file; echo '    ;'; done; } > $@
$(BUILD)/gen/sql.h: $(SQL) Makefile
	@mkdir -p $(@D)
	$(call quiet,SQL){ echo '/* Made from sql/ by the Makefile. */'; for file in $(SQL); do \
	  echo "extern const char pj_sql_$$(basename $$file .sql)[];"; done; } > $@
# What `pgprojector module new` writes: pj_template_module, _makefile, _fixture.
$(BUILD)/gen/template.h: $(TEMPLATES) Makefile
	@mkdir -p $(@D)
	$(call quiet,TEXT){ echo '/* Made from engine/app/template/ by the Makefile. */'; \
	  for pair in module:module.c makefile:Makefile fixture:test.json; do echo "static const char pj_template_$${pair%:*}[] ="; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' -e 's/^/    "/' -e 's/$$/\\n"/' engine/app/template/$${pair#*:}; echo '    ;'; done; } > $@
$(BUILD)/gen/sql.o: $(BUILD)/gen/sql.c $(BUILD)/gen/sql.h
	$(call quiet,CC)$(CC) $(ALL_CFLAGS) -c -o $@ $<

define module_rule
$(BUILD)/$(2)/$(1).so: $(wildcard projections/$(1)/*.[ch]) engine/include/pgprojector.h
	@mkdir -p $$(@D)
	$$(call quiet,MOD)$$(CC) $$(MODULE_CFLAGS) $$(MODULE_LDFLAGS) -o $$@ $$(filter %.c,$$^)
endef
$(foreach name,$(MODULE_NAMES),$(eval $(call module_rule,$(name),projections)))
$(foreach name,$(EXAMPLE_NAMES),$(eval $(call module_rule,$(name),examples)))

$(BUILD)/test/%: test/unit/%.c $(LIB)
	@mkdir -p $(@D)
	$(call quiet,TEST)$(CC) $(ALL_CFLAGS) -Itest -Itest/unit -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS) -lcriterion

$(BUILD)/bench/%: test/bench/%.c $(LIB)
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(ALL_CFLAGS) -Itest -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

$(BUILD)/fuzz/%: test/fuzz/%.c $(LIB)
	@mkdir -p $(@D)
	$(call quiet,FUZZ)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -Itest -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(ALL_LIBS)

# --------------------------------------------------------------------------------------------------------------- testing

unit: $(UNIT)

test: deps                        ## everything: builds, unit tests, integration tests on private servers (≤ 15 min)
	+$(MAKE) --no-print-directory all unit
	@code=0; $(MAKE) --no-print-directory test-unit || code=1; \
	$(MAKE) --no-print-directory test-integration || code=1; exit $$code

test-unit: unit                   ## the unit tests alone
	@test/run unit $(UNIT)

# Two processes, for the tests mostly wait; one where only some are run.
WORKERS   ?= $(if $(TESTS),1,2)
test-integration: all             ## the integration tests alone; TESTS="-k name" chooses, SEED=n repeats a history, WORKERS=2
	@PG_BIN=$(PG_BIN) PYTHON=$(PYTHON) PGPROJECTOR=$(abspath $(PROGRAM)) WORKERS=$(WORKERS) test/run integration $(TESTS)

soak: deps                        ## random histories (SEEDS=1000, FIRST=0, MINUTES=60); SCENE=rebuild|…|all CYCLES=100: what operators do
	+$(MAKE) --no-print-directory all
	PG_BIN=$(PG_BIN) $(PYTHON) test/integration/soak.py $(foreach name,SEEDS FIRST MINUTES WRITERS TRANSACTIONS SCENE CYCLES,$(if \
	  $($(name)),$(name)=$($(name))))

demo: deps                        ## two servers, a load, the daemon, a live view; DEMO_SECONDS=30, 0: until Ctrl-C
	+@$(MAKE) --no-print-directory all
	@PG_BIN=$(PG_BIN) DEMO_SECONDS=$(or $(DEMO_SECONDS),30) $(PYTHON) test/demo/demo.py

bench-tools: $(BENCH_TOOLS)

bench: deps                       ## beside what else one would use; BENCH=catchup|mixed|bigtx|latency|group|freshness|snapshot|growth|all, PLOT=1
	+@$(MAKE) --no-print-directory all bench-tools
	@PG_BIN=$(PG_BIN) $(PYTHON) test/bench/bench.py

fuzz-programs: $(FUZZ)

FUZZ_SECONDS ?= 60
fuzz:                             ## fuzz the decoders with clang's libFuzzer, FUZZ_SECONDS=60 each
	+$(MAKE) --no-print-directory CC=clang SAN=address,undefined CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' \
	  fuzz-programs FUZZ_RUN=1
	@for program in build-clang-address-undefined/fuzz/*; do name=$${program##*/}; case $$name in *.d|corpus) continue;; esac; \
	  mkdir -p build-clang-address-undefined/corpus/$$name test/fuzz/corpus/$$name; echo "fuzz $$name"; \
	  $$program -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -print_final_stats=1 \
	    build-clang-address-undefined/corpus/$$name test/fuzz/corpus/$$name || exit 1; done

# --------------------------------------------------------------------------------------------------------------- linting

lint: lint-layers lint-format lint-clang lint-tidy ## layers, format, a build by clang, clang-tidy

lint-layers:                      ## no file includes from a higher layer
	@$(PYTHON) test/lint/layers.py

lint-format:                      ## clang-format agrees with every C file
	@clang-format --dry-run -Werror $(C_FILES)

format:                           ## has clang-format write every C file
	clang-format -i $(C_FILES)

lint-clang:                       ## clang has nothing to warn of
	+@$(MAKE) --no-print-directory CC=clang all unit bench-tools

lint-tidy: $(BUILD)/gen/sql.h $(BUILD)/gen/template.h     ## clang-tidy, with the checks of .clang-tidy
	@printf '%s\n' $(SOURCES) $(wildcard projections/*/*.c) | xargs -P 2 -n 4 sh -c \
	  'clang-tidy --quiet "$$@" -- -std=c17 -D_GNU_SOURCE -DPJ_VERSION=\"$(VERSION)\" -Iengine -Iengine/include \
	   -I$(BUILD)/gen $(PKG_CFLAGS) 2>/dev/null' tidy

# ------------------------------------------------------------------------------------------------------------ installing

bindir     = $(DESTDIR)$(PREFIX)/bin
moduledir  = $(DESTDIR)$(PREFIX)/lib/pgprojector/modules
includedir = $(DESTDIR)$(PREFIX)/include
pcdir      = $(DESTDIR)$(PREFIX)/lib/pkgconfig
sharedir   = $(DESTDIR)$(PREFIX)/share/pgprojector
unitdir    = $(DESTDIR)$(PREFIX)/lib/systemd/system

install: all                      ## into PREFIX=/usr/local (under DESTDIR): program, modules, systemd unit, header, .pc, module.mk
	install -d $(bindir) $(moduledir) $(includedir) $(pcdir) $(sharedir) $(unitdir)
	install -m 755 $(PROGRAM) $(bindir)/pgprojector
	install -m 755 $(MODULES) $(moduledir)
	install -m 644 engine/include/pgprojector.h $(includedir)/pgprojector.h
	install -m 644 projections/module.mk $(sharedir)/module.mk
	sed 's|@PREFIX@|$(PREFIX)|' engine/app/pgprojector.service > $(unitdir)/pgprojector.service
	@chmod 644 $(unitdir)/pgprojector.service
	@printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'moduledir=$${prefix}/lib/pgprojector/modules' \
	  'modulemk=$${prefix}/share/pgprojector/module.mk' '' 'Name: pgprojector' \
	  'Description: keeps read models on one PostgreSQL right, by following another one' 'Version: $(VERSION)' \
	  'Cflags: -I$${includedir}' > $(pcdir)/pgprojector.pc

uninstall:                        ## takes it away again; modules of others stay
	rm -f $(bindir)/pgprojector $(patsubst %,$(moduledir)/%,$(notdir $(MODULES))) $(includedir)/pgprojector.h \
	  $(pcdir)/pgprojector.pc $(sharedir)/module.mk $(unitdir)/pgprojector.service
	@rmdir $(sharedir) $(moduledir) $(DESTDIR)$(PREFIX)/lib/pgprojector 2>/dev/null || true

clean:                            ## removes all that was built
	rm -rf build build-clang build-address-undefined build-clang-address-undefined $(BUILD)

-include $(wildcard $(OBJECTS:.o=.d) $(UNIT:%=%.d) $(BENCH_TOOLS:%=%.d) $(FUZZ:%=%.d))
