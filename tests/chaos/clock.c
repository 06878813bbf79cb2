/* A wall clock that can be put wrong while a program runs, for what Python asks of it and for nothing else.
 *
 * Loaded by LD_PRELOAD. The file that CHAOS_CLOCK names holds the seconds by which it is wrong, as an int64_t; it is
 * mapped, so that a change is seen at once by all processes. Ray's own code keeps the right time: it waits for points
 * of time in the kernel, which would not know. libfaketime cannot be used: Python's sleep fails with it (EINVAL).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static const volatile int64_t *wrong_by;
static uintptr_t low, high;

/* Note where the object lies that an address is in. */
static int find(struct dl_phdr_info *object, size_t size, void *address) {
    uintptr_t from = UINTPTR_MAX, to = 0, wanted = (uintptr_t)address;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD) continue;
        uintptr_t begin = object->dlpi_addr + part->p_vaddr;
        if (begin < from) from = begin;
        if (begin + part->p_memsz > to) to = begin + part->p_memsz;
    }
    if (wanted < from || wanted >= to) return 0;
    low = from, high = to;
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    void *python = dlsym(RTLD_DEFAULT, "Py_BytesMain");
    if (!path || !python) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *wrong_by, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED && dl_iterate_phdr(find, python)) wrong_by = mapped;
}

int clock_gettime(clockid_t which, struct timespec *time) {
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, time);
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    if (!failed && wrong_by && which == CLOCK_REALTIME && caller >= low && caller < high) time->tv_sec += *wrong_by;
    return failed;
}
