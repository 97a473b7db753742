/*
 * See elf.h. The dynamic linker takes an object for another machine for one that is not there ("cannot open shared
 * object file: No such file or directory"), and calls a text file too short. Class, byte order, kind and machine stand in
 * the first 20 bytes, at the same places in files for 32 and 64 bits.
 */
#include "host/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TYPE_AT = 16, MACHINE_AT = 18 };

static unsigned half(const unsigned char *head, size_t at)
{
    return head[EI_DATA] == ELFDATA2MSB ? (unsigned)head[at] << 8 | head[at + 1]
                                        : (unsigned)head[at + 1] << 8 | head[at];
}

static void name_machine(const unsigned char *head, char *name, size_t size)
{
    static const struct {
        unsigned machine;
        const char *name;
    } known[] = {{EM_386, "x86"},         {EM_X86_64, "x86-64"},      {EM_ARM, "ARM"},
                 {EM_AARCH64, "AArch64"}, {EM_RISCV, "RISC-V"},       {EM_PPC64, "PowerPC"},
                 {EM_S390, "IBM S/390"},  {EM_MIPS, "MIPS"},          {EM_SPARCV9, "SPARC"},
                 {EM_PPC, "PowerPC"},     {EM_LOONGARCH, "LoongArch"}};
    const char *order = head[EI_DATA] == ELFDATA2MSB ? ", big-endian" : "";
    const char *bits = head[EI_CLASS] == ELFCLASS32 ? ", 32 bits" : "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].machine == half(head, MACHINE_AT)) {
            snprintf(name, size, "%s%s%s", known[i].name, bits, order);
            return;
        }
    snprintf(name, size, "machine number %u%s%s", half(head, MACHINE_AT), bits, order);
}

bool pj_elf_foreign(const unsigned char *theirs, size_t length, const unsigned char ours[PJ_ELF_HEAD], char *why,
                    size_t size)
{
    if (length < PJ_ELF_HEAD || memcmp(theirs, ELFMAG, SELFMAG) != 0) {
        snprintf(why, size, "is no shared object: it does not begin as one does");
        return true;
    }
    if (theirs[EI_CLASS] != ours[EI_CLASS] || theirs[EI_DATA] != ours[EI_DATA] ||
        half(theirs, MACHINE_AT) != half(ours, MACHINE_AT)) {
        char their_machine[64], our_machine[64];
        name_machine(theirs, their_machine, sizeof their_machine);
        name_machine(ours, our_machine, sizeof our_machine);
        snprintf(why, size, "is built for another machine: %s; this one is %s", their_machine, our_machine);
        return true;
    }
    if (half(theirs, TYPE_AT) == ET_DYN)
        return false;
    snprintf(why, size, "is an object file or a program, no shared object");
    return true;
}

static ssize_t read_head(const char *path, unsigned char head[PJ_ELF_HEAD])
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t length = file >= 0 ? read(file, head, PJ_ELF_HEAD) : -1;
    if (file >= 0)
        close(file);
    return length;
}

bool pj_elf_file_foreign(const char *path, char *why, size_t size)
{
    unsigned char theirs[PJ_ELF_HEAD], ours[PJ_ELF_HEAD];
    ssize_t length = read_head(path, theirs);
    return length >= 0 && read_head("/proc/self/exe", ours) == PJ_ELF_HEAD &&
           pj_elf_foreign(theirs, (size_t)length, ours, why, size);
}
