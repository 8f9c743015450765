/* API keys: kept as SHA-256 hashes, compared in constant time. Any thread may check while another
 * one reloads. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include "base/error.h"
#include "base/view.h"

struct keys;

enum key_scope { KEY_NONE, KEY_USER, KEY_ADMIN };

/* A file has one key a line: the key, or "sha256:" and its hash in hexadecimal; then, optionally, a
 * space and "admin". Empty lines and lines that begin with '#' are passed over. `path` and `list`
 * (keys with commas, of user scope) may be NULL and are borrowed. Errors: IO, NOT_FOUND,
 * BAD_FORMAT (with the line), REFUSED (a file that others may read), OUT_OF_MEMORY. */
llcuda_status keys_create(const char *path, const char *list, struct keys **keys,
                          struct llcuda_error *error);
void keys_destroy(struct keys *keys);

/* Reads the file again; on failure the old keys stay. */
llcuda_status keys_reload(struct keys *keys, struct llcuda_error *error);

/* Without any key the API is open to local programs. */
bool keys_empty(struct keys *keys);

/* What a presented key may do. The time taken does not depend on the keys' contents. */
enum key_scope keys_check(struct keys *keys, struct text_view presented);

#endif
