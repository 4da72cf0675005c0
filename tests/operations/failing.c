/* Makes the k-th file operation of a process fail, or kills the process there; loaded before libc (LD_PRELOAD).

Only operations under one folder count, so that Python's own imports do not. Counters lie in memory that forks share: a
parent reads what a killed child had done. A write that fails has written half of its bytes, as on a full disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, RENAME, MKDIR, UNLINK, LINK, OPERATIONS };

static struct shared {
    long seen[OPERATIONS], counted, hit;
    int operation; /* the one that failed first */
} *shared;
static int armed, error_wanted, kills, persists;
static long failing_at;
static unsigned applies_to;
static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared = page == MAP_FAILED ? NULL : page;
}

/* at 0: count only; error 0: kill; mask: a bit for each operation that can fail so */
void failing_arm(const char *folder, long at, int error, int persistent, unsigned mask) {
    memset(shared, 0, sizeof *shared);
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
    failing_at = at, error_wanted = error, kills = error == 0, persists = persistent, applies_to = mask, armed = 1;
}

void failing_disarm(void) { armed = 0; }
long failing_seen(int operation) { return shared->seen[operation]; }
long failing_counted(void) { return shared->counted; }
long failing_hit(void) { return shared->hit; }
int failing_operation(void) { return shared->operation; }

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static int link_below(const char *link) {
    char target[PATH_MAX];
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return below(target);
}

static int descriptor_below(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return link_below(link);
}

static int is_ours(int folder, const char *path) {
    if (!armed || !path) return 0;
    if (path[0] == '/') return below(path);
    return folder == AT_FDCWD ? link_below("/proc/self/cwd") : descriptor_below(folder);
}

/* The error that this operation shall have, 0 for none. `half` is called before the first one. */
static int failure(int operation, void (*half)(void *), void *with) {
    __sync_add_and_fetch(&shared->seen[operation], 1);
    if (!(applies_to & 1u << operation)) return 0;
    long now = __sync_add_and_fetch(&shared->counted, 1);
    if (!failing_at || now < failing_at || (now > failing_at && !persists)) return 0;
    if (!__sync_fetch_and_add(&shared->hit, 1)) {
        shared->operation = operation;
        if (half) half(with);
    }
    if (kills) {
        kill(getpid(), SIGKILL);
        pause();
    }
    return error_wanted;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define FAIL_IF(ours, operation, half, with, result) \
    do { \
        int wanted = (ours) ? failure(operation, half, with) : 0; \
        if (wanted) { \
            errno = wanted; \
            return result; \
        } \
    } while (0)

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT; }

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        MODE_OF(flags) \
        FAIL_IF(writes(flags) && is_ours(AT_FDCWD, path), OPEN, NULL, NULL, -1); \
        return real(path, flags, mode); \
    }
#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        MODE_OF(flags) \
        FAIL_IF(writes(flags) && is_ours(folder, path), OPEN, NULL, NULL, -1); \
        return real(folder, path, flags, mode); \
    }
#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        FAIL_IF(strpbrk(mode, "wa+") && is_ours(AT_FDCWD, path), OPEN, NULL, NULL, NULL); \
        return real(path, mode); \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

struct piece {
    ssize_t (*write)(int, const void *, size_t, off64_t);
    int descriptor;
    const void *bytes;
    size_t count;
    off64_t at;
};

static ssize_t append(int descriptor, const void *bytes, size_t count, off64_t at) {
    (void)at;
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return real(descriptor, bytes, count);
}

static ssize_t at_place(int descriptor, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    return real(descriptor, bytes, count, at);
}

static void write_half(void *with) {
    struct piece *piece = with;
    (void)!piece->write(piece->descriptor, piece->bytes, piece->count / 2, piece->at);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    struct piece piece = {append, descriptor, bytes, count, 0};
    FAIL_IF(armed && descriptor_below(descriptor), WRITE, write_half, &piece, -1);
    return append(descriptor, bytes, count, 0);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t at) {
    struct piece piece = {at_place, descriptor, bytes, count, at};
    FAIL_IF(armed && descriptor_below(descriptor), WRITE, write_half, &piece, -1);
    return at_place(descriptor, bytes, count, at);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t at) {
    return pwrite64(descriptor, bytes, count, at);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
    REAL(writev);
    FAIL_IF(armed && descriptor_below(descriptor), WRITE, NULL, NULL, -1);
    return real(descriptor, pieces, count);
}

/* no header of these, so that the types of 32 and 64 bits do not differ from libc's */
extern ssize_t sendfile(int, int, off_t *, size_t);
extern ssize_t sendfile64(int, int, off64_t *, size_t);
ssize_t sendfile(int to, int from, off_t *at, size_t count) {
    REAL(sendfile);
    FAIL_IF(armed && descriptor_below(to), WRITE, NULL, NULL, -1);
    return real(to, from, at, count);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t count) {
    REAL(sendfile64);
    FAIL_IF(armed && descriptor_below(to), WRITE, NULL, NULL, -1);
    return real(to, from, at, count);
}
ssize_t copy_file_range(int from, off64_t *begin, int to, off64_t *at, size_t count, unsigned flags) {
    REAL(copy_file_range);
    FAIL_IF(armed && descriptor_below(to), WRITE, NULL, NULL, -1);
    return real(from, begin, to, at, count, flags);
}

#define ON_DESCRIPTOR(name, operation) \
    int name(int descriptor) { \
        REAL(name); \
        FAIL_IF(armed && descriptor_below(descriptor), operation, NULL, NULL, -1); \
        return real(descriptor); \
    }
ON_DESCRIPTOR(fsync, FSYNC)
ON_DESCRIPTOR(fdatasync, FSYNC)

#define ON_PATH(name, operation) \
    int name(const char *path) { \
        REAL(name); \
        FAIL_IF(is_ours(AT_FDCWD, path), operation, NULL, NULL, -1); \
        return real(path); \
    }
ON_PATH(unlink, UNLINK)
ON_PATH(rmdir, UNLINK)
int remove(const char *path) {
    REAL(remove);
    FAIL_IF(is_ours(AT_FDCWD, path), UNLINK, NULL, NULL, -1);
    return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    FAIL_IF(is_ours(folder, path), UNLINK, NULL, NULL, -1);
    return real(folder, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    if (!real) real = (int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir");
    FAIL_IF(is_ours(AT_FDCWD, path), MKDIR, NULL, NULL, -1);
    return real(path, mode);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    FAIL_IF(is_ours(AT_FDCWD, to), RENAME, NULL, NULL, -1);
    return real(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    FAIL_IF(is_ours(to_folder, to), RENAME, NULL, NULL, -1);
    return real(from_folder, from, to_folder, to);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(renameat2);
    FAIL_IF(is_ours(to_folder, to), RENAME, NULL, NULL, -1);
    return real(from_folder, from, to_folder, to, flags);
}
int symlink(const char *target, const char *path) {
    REAL(symlink);
    FAIL_IF(is_ours(AT_FDCWD, path), LINK, NULL, NULL, -1);
    return real(target, path);
}
int link(const char *target, const char *path) {
    REAL(link);
    FAIL_IF(is_ours(AT_FDCWD, path), LINK, NULL, NULL, -1);
    return real(target, path);
}
