# pgprojector. `make help` lists what there is.

CC        ?= gcc
SAN       ?=
BUILD     := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
comma     := ,
PREFIX    ?= /usr/local
PG_BIN    ?= /usr/lib/postgresql/15/bin
PYTHON    ?= /usr/bin/python3
VERSION   := 0.1.0

PKGS      := libpq libuv jansson inih libxxhash
DEPS      := build-essential pkg-config libpq-dev libuv1-dev libjansson-dev libinih-dev libxxhash-dev uthash-dev \
             libcriterion-dev postgresql-15 postgresql-15-wal2json python3 python3-psycopg2 python3-pytest
LINT_DEPS := clang clang-format clang-tidy

# The goals that need no compiled dependencies work before `make deps`.
ifneq ($(filter-out help deps lint-deps clean,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
endif

WARNINGS  := -Wall -Wextra -Werror -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
HARDENING := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
CFLAGS    ?= -O2 -g
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -DPJ_VERSION='"$(VERSION)"' $(WARNINGS) $(HARDENING) $(CFLAGS) \
              -Iengine -Iengine/include -I$(BUILD)/gen $(PKG_CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
ALL_LDFLAGS := -pie -Wl,-z,relro,-z,now $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))
MODULE_CFLAGS := -std=c17 $(WARNINGS) $(CFLAGS) -fPIC -fvisibility=hidden -Iengine/include $(if $(SAN),-fsanitize=$(SAN))

LAYERS    := base wire pg host core app
SOURCES   := $(foreach layer,$(LAYERS),$(wildcard engine/$(layer)/*.c))
OBJECTS   := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/gen/sql.o
LIB       := $(BUILD)/libengine.a
PROGRAM   := $(BUILD)/pgprojector
MODULES   := $(foreach dir,$(wildcard projections/*/),$(BUILD)/projections/$(notdir $(dir:%/=%)).so)
SQL       := $(wildcard sql/*.sql)
UNIT_SRC  := $(wildcard test/unit/*.c)
UNIT      := $(UNIT_SRC:test/unit/%.c=$(BUILD)/test/%)

.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAM) $(MODULES)        ## the daemon and the shipped projection modules (default)

$(LIB): $(filter-out $(BUILD)/engine/app/main.o,$(OBJECTS))
	rm -f $@
	$(AR) rcs $@ $^

$(PROGRAM): $(BUILD)/engine/app/main.o $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -ldl -lpthread

$(BUILD)/%.o: %.c | $(BUILD)/gen/sql.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Each sql/NAME.sql becomes the string pj_sql_NAME.
$(BUILD)/gen/sql.c: $(SQL) Makefile
	@mkdir -p $(@D)
	{ echo '#include "sql.h"'; for file in $(SQL); do name=$$(basename $$file .sql); \
	  echo "const char pj_sql_$$name[] ="; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/    "/' -e 's/$$/\\n"/' $$file; echo '    ;'; done; } > $@
$(BUILD)/gen/sql.h: $(SQL) Makefile
	@mkdir -p $(@D)
	{ echo '/* Made from sql/ by the Makefile. */'; for file in $(SQL); do \
	  echo "extern const char pj_sql_$$(basename $$file .sql)[];"; done; } > $@
$(BUILD)/gen/sql.o: $(BUILD)/gen/sql.c $(BUILD)/gen/sql.h
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

define module_rule
$(BUILD)/projections/$(1).so: $(wildcard projections/$(1)/*.c) engine/include/pgprojector.h
	@mkdir -p $$(@D)
	$(CC) $(MODULE_CFLAGS) -shared -Wl,-z,defs -o $$@ $$(filter %.c,$$^)
endef
$(foreach dir,$(wildcard projections/*/),$(eval $(call module_rule,$(notdir $(dir:%/=%)))))

$(BUILD)/test/%: test/unit/%.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-error -Itest/unit -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(LIB) $(PKG_LIBS) -lcriterion -ldl -lpthread

-include $(OBJECTS:.o=.d) $(BUILD)/engine/app/main.d $(UNIT:%=%.d)
