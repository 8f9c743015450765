/* Files: reading at an offset, reading whole small files, read-only maps that survive a file which
 * shrinks, and atomic writing. Paths are borrowed C strings. Any thread, one owner an object. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/buffer.h"
#include "base/error.h"

/* An open file for reading. */
struct file {
    int descriptor;
    uint64_t size; /* bytes, at the time of opening */
};

/* Opens a regular file; a folder, socket or device is refused with a sentence. */
llcuda_status file_open(struct file *file, const char *path, struct llcuda_error *error);
/* Closes; a zeroed or closed file is fine (descriptor < 0). */
void file_close(struct file *file);

/* Reads exactly `bytes` at `offset`, or fails: LLCUDA_IO with that offset when the file is shorter.
 */
llcuda_status file_read_at(const struct file *file, uint64_t offset, void *out, size_t bytes,
                           struct llcuda_error *error);

/* Reads a whole file of at most `limit` bytes, appended to `out` (LLCUDA_LIMIT when larger). */
llcuda_status file_read_all(const char *path, uint64_t limit, struct buffer *out,
                            struct llcuda_error *error);

bool file_exists(const char *path);
bool file_is_folder(const char *path);

/* "folder/name", owned by the caller (free), NULL without memory. */
char *file_path_join(const char *folder, const char *name);

/* Writes `path` whole or not at all: a file without a name (or a temporary one beside it), flushed,
 * renamed over it. The file behind a link is replaced, not the link; a device or pipe is written
 * into as it is; a folder is refused at once. */
llcuda_status file_write_atomic(const char *path, const void *data, size_t bytes,
                                struct llcuda_error *error);

/* The same in pieces, for files larger than memory. */
struct file_output {
    int descriptor; /* < 0: not open */
    char *path;
    char *temporary;
    bool nameless;    /* `temporary` does not exist yet: a process that is killed leaves nothing */
    bool direct;      /* `path` is a device or a pipe: there is no `temporary` */
    uint64_t written; /* bytes so far */
};

/* Whether a file could be made at `path`, for who works long before the first byte. Leaves nothing.
 */
llcuda_status file_output_check(const char *path, struct llcuda_error *error);

/* Makes the temporary file. After a failure there is nothing to abort. */
llcuda_status file_output_open(struct file_output *output, const char *path,
                               struct llcuda_error *error);
llcuda_status file_output_write(struct file_output *output, const void *data, size_t bytes,
                                struct llcuda_error *error);
/* Flushes and renames. Also after a failure the output is closed and no temporary file is left. */
llcuda_status file_output_commit(struct file_output *output, struct llcuda_error *error);
/* Removes the temporary file; a closed or never opened output (descriptor < 0) is fine. */
void file_output_abort(struct file_output *output);

/* Looks in a folder for entries whose names end in `suffix`. *count tells how many there are
 * and *name (caller frees, NULL when there is none) is the first of them by name. */
llcuda_status file_folder_find(const char *folder, const char *suffix, char **name, uint32_t *count,
                               struct llcuda_error *error);

/* A read-only map of a whole file. */
struct file_map {
    const uint8_t *data; /* NULL when size is 0 */
    uint64_t size;
    int slot; /* registry slot, see file_map_repair */
};

/* Maps all of `file`, which may be closed afterwards. */
llcuda_status file_map_open(struct file_map *map, const struct file *file,
                            struct llcuda_error *error);
void file_map_close(struct file_map *map);

/* True when a page of this map could not be read because the file shrank under it; its contents
 * are zeros from there on and results made from it are void. */
bool file_map_damaged(const struct file_map *map);

/* For a program's SIGBUS handler, async-signal-safe: when `address` lies in a registered map, puts
 * zero pages there, marks the map as damaged and returns true; the handler then returns and the
 * read goes on. False: not ours. The library itself installs no handler. */
bool file_map_repair(void *address);

/* Drops the pages of a read-only file map that [data, data + bytes) touches; a later read brings
 * them back from the file. Never call it on memory that is not a file map. */
void file_pages_drop(const void *data, uint64_t bytes);

#endif
