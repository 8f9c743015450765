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

/* Writes `path` whole or not at all: a temporary file beside it, flushed, renamed over it. */
llcuda_status file_write_atomic(const char *path, const void *data, size_t bytes,
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

#endif
