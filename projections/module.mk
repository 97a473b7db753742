# For a makefile of your own that builds projection modules outside this repository:
#
#     MODULES := my_projection                    # my_projection.c becomes my_projection.so
#     include $(shell pkg-config --variable=modulemk pgprojector)
#
# Goals: all (the default), install (into the program's module directory, under DESTDIR), clean.

PJ_WARNINGS ?= -Wall -Wextra
CFLAGS      ?= -O2 -g
MODULEDIR   ?= $(shell pkg-config --variable=moduledir pgprojector)

.PHONY: all install clean
all: $(MODULES:%=%.so)

%.so: %.c
	$(CC) -std=c17 $(PJ_WARNINGS) $(CFLAGS) $(shell pkg-config --cflags pgprojector) -fPIC -fvisibility=hidden \
	  -shared -Wl,-z,defs $(LDFLAGS) -o $@ $<

install: all
	install -d $(DESTDIR)$(MODULEDIR)
	install -m 755 $(MODULES:%=%.so) $(DESTDIR)$(MODULEDIR)

clean:
	rm -f $(MODULES:%=%.so)
