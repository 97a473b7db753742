# For a makefile that builds projection modules outside the source tree (`pgprojector module new` writes one):
#
#     MODULES := my_projection                    # my_projection.c becomes my_projection.so
#     include $(shell pkg-config --variable=modulemk pgprojector)
#
# Goals: all (the default); test: fixtures (*.json) through the modules, without a server; check: every fault that can be
# found, with the databases of WRITE_DATABASE_URL and READ_DATABASE_URL if they are set; install: into the program's module
# directory, under DESTDIR; clean. Works from the place it was installed to, and from the source tree alike.

PJ_KIT      := $(dir $(lastword $(MAKEFILE_LIST)))
PJ_TREE     := $(wildcard $(PJ_KIT)../engine/include/pgprojector.h)
PJ_INCLUDE  := $(patsubst %/,%,$(dir $(or $(PJ_TREE),$(wildcard $(PJ_KIT)../../include/pgprojector.h))))
ifeq ($(PJ_INCLUDE),)
$(error pgprojector.h is not where it should be, seen from $(PJ_KIT)module.mk; install pgprojector anew)
endif
PJ_WARNINGS ?= -Wall -Wextra
CFLAGS      ?= -O2 -g
PGPROJECTOR ?= $(or $(wildcard $(PJ_KIT)$(if $(PJ_TREE),../build/pgprojector,../../bin/pgprojector)),pgprojector)
MODULEDIR   ?= $(abspath $(PJ_KIT)$(if $(PJ_TREE),../build/projections,../../lib/pgprojector/modules))

.PHONY: all test check install clean
all: $(MODULES:%=%.so)

# Not writable by others: else pgprojector refuses to load it.
%.so: %.c $(PJ_INCLUDE)/pgprojector.h
	$(CC) -std=c17 $(PJ_WARNINGS) $(CFLAGS) -I$(PJ_INCLUDE) -fPIC -fvisibility=hidden -shared -Wl,-z,defs $(LDFLAGS) \
	  -o $@ $<
	@chmod go-w $@

test: all
	@for module in $(MODULES); do $(PGPROJECTOR) module test ./$$module.so || exit; done

check: all
	@$(PGPROJECTOR) module check $(MODULES:%=./%.so)

install: all
	install -d $(DESTDIR)$(MODULEDIR)
	install -m 755 $(MODULES:%=%.so) $(DESTDIR)$(MODULEDIR)

clean:
	rm -f $(MODULES:%=%.so)
