/* Why an object file cannot be loaded here, where its first bytes tell: the dynamic linker's own words mislead. */
#ifndef PJ_HOST_ELF_H
#define PJ_HOST_ELF_H

#include <stdbool.h>
#include <stddef.h>

enum { PJ_ELF_HEAD = 20 }; /* bytes of a file that are looked at */

/* Whether the file cannot be one for this program; `why` then goes on behind its name ("is built for another machine: …").
 * `theirs` is the beginning of the file, `length` bytes of it; `ours` that of this program's own file. Pure. */
bool pj_elf_foreign(const unsigned char *theirs, size_t length, const unsigned char ours[PJ_ELF_HEAD], char *why,
                    size_t size);

/* The same of a file, and of the program that is running. False where either cannot be read. */
bool pj_elf_file_foreign(const char *path, char *why, size_t size);

#endif
