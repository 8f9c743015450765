/* Owns atomic writing and looking into folders. Invariant: the final name appears only when the
 * whole content is on disk. Until then the bytes lie in a file without a name, which the system
 * removes with the process however that ends; where there are no such files, in a temporary one in
 * the same folder, which is removed by whoever closes the output. Only files are replaced: into a
 * device or a pipe the bytes go at once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"

/* Opens a file without a name in the folder of `path`; -1 where that is not possible. `folder` is
 * scratch. Modes are the ones that the user's umask leaves. */
static int open_nameless(const char *path, struct buffer *folder)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 1;
    buffer_append(folder, slash ? path : ".", length);
#if defined(O_TMPFILE)
    /* Giving it a name later goes through /proc. */
    if (!folder->failed && access("/proc/self/fd", X_OK) == 0) {
        return open(buffer_text(folder), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    }
#endif
    return -1;
}

/* Gives the file the name `output->temporary`, which rename() then makes the final one: a name that
 * exists cannot be linked over. */
static bool give_name(struct file_output *output)
{
    char link_path[64];
    snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", output->descriptor);
    return linkat(AT_FDCWD, link_path, AT_FDCWD, output->temporary, AT_SYMLINK_FOLLOW) == 0;
}

/* Opens the device or pipe at `path` to be written straight into: renaming a file over it would put
 * a file into the place of /dev/null, for everybody. */
static llcuda_status open_direct(struct file_output *output, const char *path,
                                 struct llcuda_error *error)
{
    output->direct = true;
    output->path = strdup(path);
    if (!output->path) {
        return error_no_memory(error, "a file name", strlen(path));
    }
    output->descriptor = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (output->descriptor < 0) {
        return error_from_errno(error, errno, "open", path);
    }
    return LLCUDA_OK;
}

/* Makes the file that is to become `path`. */
static llcuda_status open_temporary(struct file_output *output, const char *path,
                                    struct llcuda_error *error)
{
    struct buffer name = {0};
    struct buffer temporary = {0};
    struct buffer folder = {0};
    buffer_append_text(&name, path);
    buffer_printf(&temporary, "%s.%016llx", path, (unsigned long long)random_seed());
    output->descriptor = open_nameless(path, &folder);
    output->nameless = output->descriptor >= 0;
    bool failed = name.failed || temporary.failed || folder.failed;
    output->path = name.data;
    output->temporary = temporary.data;
    buffer_deinit(&folder);
    if (failed) {
        return error_no_memory(error, "a file name", strlen(path));
    }
    if (!output->nameless) {
        output->descriptor = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (output->descriptor < 0) {
        return error_from_errno(error, errno, "create", path);
    }
    return LLCUDA_OK;
}

static void forget(struct file_output *output)
{
    free(output->temporary);
    free(output->path);
    *output = (struct file_output){.descriptor = -1};
}

llcuda_status file_output_open(struct file_output *output, const char *path,
                               struct llcuda_error *error)
{
    struct stat found;
    size_t length = strlen(path);
    *output = (struct file_output){.descriptor = -1};
    if (length == 0 || path[length - 1] == '/') {
        return error_set(error, LLCUDA_IO, "'%s' is no name of a file", path);
    }
    bool exists = stat(path, &found) == 0;
    if (exists && S_ISDIR(found.st_mode)) {
        return error_set(error, LLCUDA_IO, "'%s' is a folder, not a file", path);
    }
    llcuda_status status;
    if (exists && !S_ISREG(found.st_mode)) {
        status = open_direct(output, path, error);
    } else {
        /* Behind a link it is the file that changes, and the link stays. */
        char real[PATH_MAX];
        if (exists && !realpath(path, real)) {
            return error_from_errno(error, errno, "open", path);
        }
        status = open_temporary(output, exists ? real : path, error);
    }
    if (status) {
        if (output->descriptor >= 0) {
            close(output->descriptor); /* nameless, or it would have been the last to fail */
        }
        forget(output);
    }
    return status;
}

llcuda_status file_output_check(const char *path, struct llcuda_error *error)
{
    struct stat found;
    struct file_output output;
    if (stat(path, &found) == 0 && !S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) {
        return LLCUDA_OK; /* who reads a pipe would see its end */
    }
    llcuda_status status = file_output_open(&output, path, error);
    file_output_abort(&output);
    return status;
}

llcuda_status file_output_write(struct file_output *output, const void *data, size_t bytes,
                                struct llcuda_error *error)
{
    const char *source = data;
    while (bytes) {
        ssize_t count = write(output->descriptor, source, bytes);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_from_errno(error, errno, "write", output->path);
        }
        source += count;
        bytes -= (size_t)count;
        output->written += (uint64_t)count;
    }
    return LLCUDA_OK;
}

llcuda_status file_output_commit(struct file_output *output, struct llcuda_error *error)
{
    llcuda_status status = LLCUDA_OK;
    if (output->direct) {
        if (close(output->descriptor) != 0) {
            status = error_from_errno(error, errno, "close", output->path);
        }
        forget(output);
        return status;
    }
    if (fsync(output->descriptor) != 0) {
        status = error_from_errno(error, errno, "flush", output->path);
    }
    bool has_name = !output->nameless;
    if (!status && !has_name) {
        has_name = give_name(output);
        status = has_name ? LLCUDA_OK : error_from_errno(error, errno, "name", output->path);
    }
    if (close(output->descriptor) != 0 && !status) {
        status = error_from_errno(error, errno, "close", output->path);
    }
    if (!status && rename(output->temporary, output->path) != 0) {
        status = error_from_errno(error, errno, "rename a temporary file to", output->path);
    }
    if (status && has_name) {
        unlink(output->temporary);
    }
    forget(output);
    return status;
}

void file_output_abort(struct file_output *output)
{
    if (output->descriptor >= 0) {
        close(output->descriptor);
        if (!output->nameless && !output->direct) {
            unlink(output->temporary);
        }
        forget(output);
    }
}

llcuda_status file_write_atomic(const char *path, const void *data, size_t bytes,
                                struct llcuda_error *error)
{
    struct file_output output;
    llcuda_status status = file_output_open(&output, path, error);
    if (status) {
        return status;
    }
    status = file_output_write(&output, data, bytes, error);
    if (status) {
        file_output_abort(&output);
        return status;
    }
    return file_output_commit(&output, error);
}

static bool ends_in(const char *name, const char *suffix)
{
    size_t length = strlen(name);
    size_t tail = strlen(suffix);
    return length > tail && memcmp(name + length - tail, suffix, tail) == 0;
}

llcuda_status file_folder_find(const char *folder, const char *suffix, char **name, uint32_t *count,
                               struct llcuda_error *error)
{
    *name = NULL;
    *count = 0;
    DIR *stream = opendir(folder);
    if (!stream) {
        return error_from_errno(error, errno, "look into", folder);
    }
    struct buffer first = {0};
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        if (!ends_in(entry->d_name, suffix)) {
            continue;
        }
        if (*count == 0 || strcmp(entry->d_name, first.data) < 0) {
            buffer_clear(&first);
            if (!buffer_append_text(&first, entry->d_name)) {
                break;
            }
        }
        (*count)++;
    }
    closedir(stream);
    if (first.failed) {
        buffer_deinit(&first);
        *count = 0;
        return error_no_memory(error, "a file name", strlen(folder));
    }
    *name = first.data;
    return LLCUDA_OK;
}
