/* API keys: kept as SHA-256 hashes, compared in constant time; and the limits of each. Any thread
 * may check while another one reloads. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include "base/error.h"
#include "base/view.h"

#define KEY_NAME_BYTES 32

struct keys;

enum key_scope { KEY_NONE, KEY_USER, KEY_ADMIN };

struct key_limits {
    uint32_t concurrency; /* generating requests at a time; 0: no limit */
    uint32_t rate;        /* generating requests a minute; 0: no limit */
};

/* Who a key stands for, with what is counted for it. Never freed before the keys, so that a request
 * may keep it across a reload. */
struct key_account;

/* A file has one key a line: the key, or "sha256:" and its hash in hexadecimal; then, optionally,
 * words after spaces: "user" or "admin", "name=NAME" (in logs, and for fairness between names),
 * "concurrency=N", "rate=N". Empty lines and lines that begin with '#' are passed over. `path` and
 * `list` (keys with commas, of user scope) may be NULL and are borrowed. `limits` hold where a line
 * does not say otherwise, and for everybody together where there is no key. Errors: IO, NOT_FOUND,
 * BAD_FORMAT (with the line), REFUSED (a file that others may read), OUT_OF_MEMORY. */
llcuda_status keys_create(const char *path, const char *list, const struct key_limits *limits,
                          struct keys **keys, struct llcuda_error *error);
void keys_destroy(struct keys *keys);

/* Reads the file again; on failure the old keys stay. What is counted stays with each key. */
llcuda_status keys_reload(struct keys *keys, struct llcuda_error *error);

/* Without any key the API is open to local programs. */
bool keys_empty(struct keys *keys);

/* What a presented key may do, and whose it is. The time taken does not depend on the keys'
 * contents. */
enum key_scope keys_check(struct keys *keys, struct text_view presented,
                          struct key_account **account);
/* The account of requests without a key. */
struct key_account *keys_anonymous(struct keys *keys);

/* The name given in the file, or "key-" and the first digits of its hash; "" for the anonymous one.
 */
void key_account_name(struct key_account *account, char name[KEY_NAME_BYTES]);

enum key_verdict { KEY_MAY, KEY_TOO_MANY, KEY_TOO_OFTEN };

/* Asks for one more generating request. KEY_MAY: key_account_end is due at its end. KEY_TOO_OFTEN:
 * *wait_s says when it may be asked again. */
enum key_verdict key_account_begin(struct key_account *account, uint32_t *wait_s);
void key_account_end(struct key_account *account);

#endif
