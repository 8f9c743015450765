/* Owns system calls on files. Maps are entered in a fixed registry so that a SIGBUS handler, which
 * may not lock or allocate, can tell a truncated model file from a bug. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_SLOTS 512

struct map_slot {
    atomic_uintptr_t begin; /* 0: free, 1: being filled */
    atomic_uintptr_t end;
    atomic_bool damaged;
};

static struct map_slot map_slots[MAP_SLOTS];

llcuda_status file_open(struct file *file, const char *path, struct llcuda_error *error)
{
    *file = (struct file){.descriptor = -1};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return error_from_errno(error, errno, "open", path);
    }
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        int reason = errno;
        close(descriptor);
        return error_from_errno(error, reason, "examine", path);
    }
    if (!S_ISREG(status.st_mode)) {
        close(descriptor);
        return error_set(error, LLCUDA_IO, "'%s' is %s, not a file", path,
                         S_ISDIR(status.st_mode) ? "a folder" : "a special file");
    }
    file->descriptor = descriptor;
    file->size = (uint64_t)status.st_size;
    return LLCUDA_OK;
}

void file_close(struct file *file)
{
    if (file->descriptor >= 0) {
        close(file->descriptor);
    }
    file->descriptor = -1;
}

llcuda_status file_read_at(const struct file *file, uint64_t offset, void *out, size_t bytes,
                           struct llcuda_error *error)
{
    char *target = out;
    size_t done = 0;
    while (done < bytes) {
        ssize_t count =
            pread(file->descriptor, target + done, bytes - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_set_at(error, LLCUDA_IO, offset + done, "read failed at byte %llu (%s)",
                                (unsigned long long)(offset + done), strerrorname_np(errno));
        }
        if (count == 0) {
            return error_set_at(error, LLCUDA_IO, offset + done, "the file ends at byte %llu",
                                (unsigned long long)(offset + done));
        }
        done += (size_t)count;
    }
    return LLCUDA_OK;
}

llcuda_status file_read_all(const char *path, uint64_t limit, struct buffer *out,
                            struct llcuda_error *error)
{
    struct file file;
    llcuda_status status = file_open(&file, path, error);
    if (status) {
        return status;
    }
    if (file.size > limit) {
        status = error_set(error, LLCUDA_LIMIT, "'%s' has %llu bytes, more than the limit of %llu",
                           path, (unsigned long long)file.size, (unsigned long long)limit);
    } else if (!buffer_reserve(out, (size_t)file.size)) {
        status = error_no_memory(error, path, file.size);
    } else {
        status = file_read_at(&file, 0, out->data + out->length, (size_t)file.size, error);
    }
    if (!status) {
        out->length += (size_t)file.size;
        out->data[out->length] = 0;
    }
    file_close(&file);
    return status;
}

bool file_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

bool file_is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

char *file_path_join(const char *folder, const char *name)
{
    struct buffer path = {0};
    buffer_append_text(&path, folder);
    if (path.length == 0 || path.data[path.length - 1] != '/') {
        buffer_append_byte(&path, '/');
    }
    buffer_append_text(&path, name);
    if (path.failed) {
        buffer_deinit(&path);
        return NULL;
    }
    return path.data;
}

static int register_map(uintptr_t begin, uintptr_t end)
{
    for (int i = 0; i < MAP_SLOTS; i++) {
        uintptr_t expected = 0;
        if (atomic_compare_exchange_strong(&map_slots[i].begin, &expected, 1)) {
            atomic_store(&map_slots[i].end, end);
            atomic_store(&map_slots[i].damaged, false);
            atomic_store(&map_slots[i].begin, begin);
            return i;
        }
    }
    return -1;
}

llcuda_status file_map_open(struct file_map *map, const struct file *file,
                            struct llcuda_error *error)
{
    *map = (struct file_map){.slot = -1};
    if (file->size == 0) {
        return LLCUDA_OK;
    }
    if (file->size > SIZE_MAX) {
        return error_set(error, LLCUDA_LIMIT, "a file of %llu bytes does not fit the address space",
                         (unsigned long long)file->size);
    }
    void *data =
        mmap(NULL, (size_t)file->size, PROT_READ, MAP_SHARED | MAP_NORESERVE, file->descriptor, 0);
    if (data == MAP_FAILED) {
        return error_set(error, errno == ENOMEM ? LLCUDA_OUT_OF_MEMORY : LLCUDA_IO,
                         "cannot map %llu bytes (%s)", (unsigned long long)file->size,
                         strerrorname_np(errno));
    }
    map->data = data;
    map->size = file->size;
    map->slot = register_map((uintptr_t)data, (uintptr_t)data + (uintptr_t)file->size);
    if (map->slot < 0) {
        munmap(data, (size_t)file->size);
        *map = (struct file_map){.slot = -1};
        return error_set(error, LLCUDA_LIMIT, "more than %d files are mapped at once", MAP_SLOTS);
    }
    return LLCUDA_OK;
}

void file_map_close(struct file_map *map)
{
    if (map->data) {
        atomic_store(&map_slots[map->slot].begin, 0);
        munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    }
    *map = (struct file_map){.slot = -1};
}

bool file_map_damaged(const struct file_map *map)
{
    return map->data && atomic_load(&map_slots[map->slot].damaged);
}

bool file_map_repair(void *address)
{
    uintptr_t place = (uintptr_t)address;
    for (int i = 0; i < MAP_SLOTS; i++) {
        uintptr_t begin = atomic_load(&map_slots[i].begin);
        uintptr_t end = atomic_load(&map_slots[i].end);
        if (begin <= 1 || place < begin || place >= end) {
            continue;
        }
        /* The rest of the map from the faulting page on: one fault a truncation, not one a page. */
        uintptr_t page = place & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
        void *zeros = mmap((void *)page, end - page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        atomic_store(&map_slots[i].damaged, true);
        return zeros != MAP_FAILED;
    }
    return false;
}

void file_pages_drop(const void *data, uint64_t bytes)
{
    if (bytes == 0) {
        return;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = (uint64_t)(uintptr_t)data / page * page;
    uint64_t end = ((uint64_t)(uintptr_t)data + bytes + page - 1) / page * page;
    (void)madvise((void *)(uintptr_t)begin, end - begin, MADV_DONTNEED);
}
