/* Makes the n-th call of a kind fail, be torn, or kill the process, if it concerns a file in one folder.
 *
 * Loaded with LD_PRELOAD, it takes the place of the C library's functions, for Python and for SQLite. It does nothing
 * until `arm` is called. Memory-mapped writes, which SQLite uses for its index of the log, are not calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* In the order of shim.py. */
enum call { READ, WRITE, SYNC, TRUNCATE, NAME, CALLS };
enum fault { NONE, FAILS, STAYS_BROKEN, FULL, TORN, KILLED };

static char folder[PATH_MAX];
static size_t folder_length;
static enum call armed_call;
static enum fault armed_fault;
static long armed_nth;
static atomic_long seen[CALLS];

void arm(const char *where, int call, long nth, int fault) {
    armed_call = call;
    armed_nth = nth;
    armed_fault = fault;
    strncpy(folder, where, sizeof folder - 1);
    folder_length = strlen(folder);
}

long count_of(int call) { return seen[call]; }

/* --- which calls count ------------------------------------------------------------------------------------------- */

static int is_inside(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

static int has_path_inside(int descriptor) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = folder_length ? readlink(link, path, sizeof path - 1) : -1;
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return is_inside(path);
}

static int names_inside(int at, const char *path) {
    return path[0] == '/' ? is_inside(path) : at != AT_FDCWD && has_path_inside(at);
}

/* Count a call and return what is to happen to it. */
static enum fault fault_of(enum call call) {
    long number = atomic_fetch_add(&seen[call], 1) + 1;
    if (call != armed_call || number < armed_nth) return NONE;
    if (number == armed_nth) return armed_fault;
    return armed_fault == STAYS_BROKEN || armed_fault == FULL ? STAYS_BROKEN : NONE;
}

static _Noreturn void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Return whether a call fails; errno is set. Does not return if the process is to be killed. */
static int fails(enum call call) {
    enum fault fault = fault_of(call);
    if (fault == NONE) return 0;
    if (fault == KILLED) die();
    errno = armed_fault == FULL ? ENOSPC : EIO;
    return 1;
}

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

/* --- the functions ----------------------------------------------------------------------------------------------- */

/* A write: a torn one writes its first half, and kills the process. A disk that gets full still takes the first half. */
#define WRITE_CALL(whole, half) \
    switch (fault_of(WRITE)) { \
    case NONE: return whole; \
    case TORN: (void)!(half); die(); \
    case FULL: return half; \
    default: errno = armed_fault == FULL ? ENOSPC : EIO; return -1; \
    }

ssize_t write(int fd, const void *data, size_t size) {
    if (!has_path_inside(fd)) return REAL(write)(fd, data, size);
    WRITE_CALL(REAL(write)(fd, data, size), REAL(write)(fd, data, size / 2))
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (!has_path_inside(fd)) return REAL(pwrite64)(fd, data, size, at);
    WRITE_CALL(REAL(pwrite64)(fd, data, size, at), REAL(pwrite64)(fd, data, size / 2, at))
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    ssize_t (*real)(int, int, off64_t *, size_t) = dlsym(RTLD_NEXT, "sendfile64");
    if (!has_path_inside(to)) return real(to, from, at, size);
    WRITE_CALL(real(to, from, at, size), real(to, from, at, size / 2))
}

ssize_t read(int fd, void *data, size_t size) {
    return has_path_inside(fd) && fails(READ) ? -1 : REAL(read)(fd, data, size);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return has_path_inside(fd) && fails(READ) ? -1 : REAL(pread64)(fd, data, size, at);
}

ssize_t pread(int fd, void *data, size_t size, off_t at) { return pread64(fd, data, size, at); }

int fsync(int fd) { return has_path_inside(fd) && fails(SYNC) ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return has_path_inside(fd) && fails(SYNC) ? -1 : REAL(fdatasync)(fd); }

int ftruncate64(int fd, off64_t size) {
    return has_path_inside(fd) && fails(TRUNCATE) ? -1 : REAL(ftruncate64)(fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int renameat(int from_at, const char *from, int to_at, const char *to) {
    return names_inside(to_at, to) && fails(NAME) ? -1 : REAL(renameat)(from_at, from, to_at, to);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    return names_inside(to_at, to) && fails(NAME) ? -1 : REAL(linkat)(from_at, from, to_at, to, flags);
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags) {
    return names_inside(at, path) && fails(NAME) ? -1 : REAL(unlinkat)(at, path, flags);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
