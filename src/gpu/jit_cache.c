/* Owns the cache folder. Invariants: an entry appears whole (written beside, renamed over) under a
 * name made of its key and its compiler's version; nothing is believed because of its name: an
 * entry is a pack whose checksums and key are looked at. Everything happens relative to the open
 * folder, without following links, so that swapping the folder for another changes nothing. Files
 * that are not ours, or that others can write to, are treated as absent. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "gpu/jit_cache.h"
#include "gpu/kernel_pack.h"

#define KEY_DIGITS          32u /* of the key in a file's name: 128 bits */
#define ENTRY_BYTES_MAX     (256ull << 20)
#define TEMPORARY_AGE_S_MAX 3600
#define ENTRIES_MAX         65536u

struct entry_name {
    char text[64];
};

static void key_digits(const uint8_t key[SHA256_BYTES], char digits[KEY_DIGITS + 1])
{
    for (size_t i = 0; i < KEY_DIGITS / 2; i++) {
        snprintf(digits + 2 * i, 3, "%02x", key[i]);
    }
}

static struct entry_name name_of(const uint8_t key[SHA256_BYTES], uint32_t compiler_version)
{
    struct entry_name name;
    char digits[KEY_DIGITS + 1];
    key_digits(key, digits);
    snprintf(name.text, sizeof name.text, "%s-%u.kernel", digits, compiler_version);
    return name;
}

static bool is_entry(const char *name)
{
    const size_t length = strlen(name);
    return length > KEY_DIGITS + 8 && name[KEY_DIGITS] == '-' &&
           strcmp(name + length - 7, ".kernel") == 0;
}

/* Makes the folder and what leads to it, as far as they are missing. */
static llcuda_status make_folders(const char *folder, struct llcuda_error *error)
{
    struct buffer path = {0};
    llcuda_status status = LLCUDA_OK;
    buffer_append_text(&path, folder);
    if (path.failed || path.length == 0) {
        buffer_deinit(&path);
        return error_set(error, LLCUDA_INVALID_ARGUMENT, "the cache folder has no name");
    }
    for (size_t i = 1; i <= path.length && status == LLCUDA_OK; i++) {
        const char kept = path.data[i];
        if (kept == '/' || kept == 0) {
            path.data[i] = 0;
            if (mkdir(path.data, 0700) != 0 && errno != EEXIST) {
                status = error_from_errno(error, errno, "create the folder", path.data);
            }
            path.data[i] = kept;
        }
    }
    buffer_deinit(&path);
    return status;
}

llcuda_status jit_cache_open(struct jit_cache *cache, const char *folder, uint64_t bytes_max,
                             struct llcuda_error *error)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct stat info;
    *cache = (struct jit_cache){.folder = open(folder, flags), .bytes_max = bytes_max};
    if (cache->folder < 0 && errno == ENOENT) {
        llcuda_status status = make_folders(folder, error);
        if (status != LLCUDA_OK) {
            return status;
        }
        cache->folder = open(folder, flags);
    }
    if (cache->folder < 0 && (errno == ELOOP || errno == ENOTDIR)) {
        return error_set(error, LLCUDA_REFUSED,
                         "the kernel cache '%s' is a link or no folder: remove it, or choose "
                         "another",
                         folder);
    }
    if (cache->folder < 0) {
        return error_from_errno(error, errno, "open the kernel cache", folder);
    }
    if (fstat(cache->folder, &info) != 0) {
        llcuda_status status = error_from_errno(error, errno, "examine", folder);
        jit_cache_close(cache);
        return status;
    }
    if (info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
        jit_cache_close(cache);
        return error_set(error, LLCUDA_REFUSED,
                         "the kernel cache '%s' %s: kernels run with this program's rights, so "
                         "they are kept only in a folder of mode 0700 of its own user",
                         folder,
                         info.st_uid != geteuid() ? "belongs to another user"
                                                  : "can be entered by others");
    }
    return LLCUDA_OK;
}

void jit_cache_close(struct jit_cache *cache)
{
    if (cache->folder >= 0) {
        close(cache->folder);
    }
    cache->folder = -1;
}

/* Opens an entry for reading; < 0 when there is none that can be trusted. */
static int open_entry(const struct jit_cache *cache, const char *name, uint64_t *bytes)
{
    struct stat info;
    const int file = openat(cache->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) {
        return -1;
    }
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 022) != 0 || info.st_size < 0 || (uint64_t)info.st_size > ENTRY_BYTES_MAX) {
        close(file);
        return -1;
    }
    *bytes = (uint64_t)info.st_size;
    return file;
}

static llcuda_status read_entry(const struct jit_cache *cache, const char *name,
                                const uint8_t key[SHA256_BYTES], struct buffer *binary,
                                struct llcuda_error *error)
{
    struct buffer content = {0};
    struct kernel_pack pack;
    struct kernel_pack_item item;
    uint64_t bytes = 0;
    struct file file = {.descriptor = open_entry(cache, name, &bytes)};
    if (file.descriptor < 0) {
        return error_set(error, LLCUDA_NOT_FOUND, "the kernel cache has no '%s'", name);
    }
    llcuda_status status = LLCUDA_OK;
    if (!buffer_reserve(&content, bytes)) {
        status = error_no_memory(error, "a cached kernel", bytes);
    }
    if (status == LLCUDA_OK) {
        status = file_read_at(&file, 0, content.data, bytes, error);
    }
    if (status == LLCUDA_OK) {
        status = kernel_pack_open(&pack, content.data, bytes, error);
    }
    if (status == LLCUDA_OK) {
        status = kernel_pack_find(&pack, key, &item, error);
        status = status == LLCUDA_NOT_FOUND ? LLCUDA_BAD_FORMAT : status;
    }
    if (status == LLCUDA_OK && !buffer_append(binary, item.data, item.bytes)) {
        status = error_no_memory(error, "a cached kernel", item.bytes);
    }
    if (status == LLCUDA_OK) {
        futimens(file.descriptor, NULL); /* the least recently used go first */
    } else if (status == LLCUDA_BAD_FORMAT) {
        unlinkat(cache->folder, name, 0);
    }
    file_close(&file);
    buffer_deinit(&content);
    return status;
}

/* Calls `each` for every name in the folder until it returns false. */
static void folder_walk(const struct jit_cache *cache, bool (*each)(void *user, const char *name),
                        void *user)
{
    /* Opened anew, so that the position in the folder is this walk's own. */
    const int descriptor = openat(cache->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (!stream) {
        if (descriptor >= 0) {
            close(descriptor);
        }
        return;
    }
    const struct dirent *item;
    while ((item = readdir(stream)) && each(user, item->d_name)) {
    }
    closedir(stream);
}

struct search {
    char digits[KEY_DIGITS + 1];
    struct entry_name found;
};

static bool search_each(void *user, const char *name)
{
    struct search *search = user;
    if (is_entry(name) && strncmp(name, search->digits, KEY_DIGITS) == 0) {
        snprintf(search->found.text, sizeof search->found.text, "%s", name);
        return false;
    }
    return true;
}

llcuda_status jit_cache_read(const struct jit_cache *cache, const uint8_t key[SHA256_BYTES],
                             uint32_t compiler_version, struct buffer *binary,
                             struct llcuda_error *error)
{
    if (cache->folder < 0) {
        return error_set(error, LLCUDA_NOT_FOUND, "there is no kernel cache");
    }
    struct search search = {.found = name_of(key, compiler_version)};
    if (compiler_version == 0) {
        key_digits(key, search.digits);
        folder_walk(cache, search_each, &search);
    }
    return read_entry(cache, search.found.text, key, binary, error);
}

/* Keeping the folder small. */

struct entry_age {
    struct entry_name name;
    uint64_t bytes;
    int64_t time_ns;
};

struct survey {
    const struct jit_cache *cache;
    struct entry_age *entries;
    size_t count;
    size_t capacity;
    uint64_t bytes;
};

static bool survey_each(void *user, const char *name)
{
    struct survey *survey = user;
    struct stat info;
    if (fstatat(survey->cache->folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode) || strlen(name) >= sizeof(struct entry_name)) {
        return true;
    }
    if (strncmp(name, "new-", 4) == 0) {
        /* Left behind by a process that was killed while it wrote. */
        if (time(NULL) - info.st_mtime > TEMPORARY_AGE_S_MAX) {
            unlinkat(survey->cache->folder, name, 0);
        }
        return true;
    }
    if (!is_entry(name)) {
        return true;
    }
    if (survey->count == survey->capacity) {
        const size_t capacity = survey->capacity * 2 + 64;
        struct entry_age *grown = realloc(survey->entries, capacity * sizeof *grown);
        if (!grown) {
            return false;
        }
        survey->entries = grown;
        survey->capacity = capacity;
    }
    struct entry_age *entry = &survey->entries[survey->count++];
    snprintf(entry->name.text, sizeof entry->name.text, "%s", name);
    entry->bytes = (uint64_t)info.st_size;
    entry->time_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    survey->bytes += entry->bytes;
    return survey->count < ENTRIES_MAX;
}

static int older_first(const void *a, const void *b)
{
    const struct entry_age *one = a;
    const struct entry_age *other = b;
    return (one->time_ns > other->time_ns) - (one->time_ns < other->time_ns);
}

static void trim(const struct jit_cache *cache)
{
    struct survey survey = {.cache = cache};
    folder_walk(cache, survey_each, &survey);
    if (survey.count && survey.bytes > cache->bytes_max) {
        qsort(survey.entries, survey.count, sizeof *survey.entries, older_first);
    }
    /* The newest stays, however large: it is what this process needs. */
    for (size_t i = 0; i + 1 < survey.count && survey.bytes > cache->bytes_max; i++) {
        unlinkat(cache->folder, survey.entries[i].name.text, 0);
        survey.bytes -= survey.entries[i].bytes;
    }
    free(survey.entries);
}

static llcuda_status write_all(int file, const char *name, const struct buffer *content,
                               struct llcuda_error *error)
{
    for (size_t at = 0; at < content->length;) {
        const ssize_t count = write(file, content->data + at, content->length - at);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_from_errno(error, errno, "write to the kernel cache", name);
        }
        at += (size_t)count;
    }
    return LLCUDA_OK;
}

llcuda_status jit_cache_write(const struct jit_cache *cache, const uint8_t key[SHA256_BYTES],
                              uint32_t compiler_version, const char *name,
                              const struct buffer *binary, struct llcuda_error *error)
{
    struct kernel_pack_item item = {
        .compiler_version = compiler_version, .data = binary->data, .bytes = binary->length};
    struct buffer content = {0};
    char temporary[40];
    if (cache->folder < 0) {
        return LLCUDA_OK;
    }
    memcpy(item.key, key, sizeof item.key);
    snprintf(item.name, sizeof item.name, "%s", name);
    llcuda_status status = kernel_pack_write(&item, 1, &content, error);
    if (status != LLCUDA_OK) {
        buffer_deinit(&content);
        return status;
    }
    snprintf(temporary, sizeof temporary, "new-%016llx", (unsigned long long)random_seed());
    const int file = openat(cache->folder, temporary,
                            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) {
        buffer_deinit(&content);
        return error_from_errno(error, errno, "write to the kernel cache", temporary);
    }
    const struct entry_name final = name_of(key, compiler_version);
    status = write_all(file, temporary, &content, error);
    if (close(file) != 0 && status == LLCUDA_OK) {
        status = error_from_errno(error, errno, "write to the kernel cache", temporary);
    }
    if (status == LLCUDA_OK && renameat(cache->folder, temporary, cache->folder, final.text) != 0) {
        status = error_from_errno(error, errno, "write to the kernel cache", final.text);
    }
    if (status != LLCUDA_OK) {
        unlinkat(cache->folder, temporary, 0);
    } else {
        trim(cache);
    }
    buffer_deinit(&content);
    return status;
}
