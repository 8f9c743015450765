/* Owns the set of API keys. What is kept is a hash of each, so that neither a core dump nor a log
 * shows one; all hashes are compared each time, without an early end. */
#include "server/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/file.h"

#define KEYS_MAX       4096u
#define KEY_FILE_BYTES (1u << 20)
#define HASH_PREFIX    "sha256:"

struct key {
    unsigned char hash[SHA256_DIGEST_LENGTH];
    enum key_scope scope;
};

struct keys {
    const char *path;
    const char *list;
    pthread_rwlock_t lock;
    struct key *items;
    uint32_t count;
};

struct key_set {
    struct key *items;
    uint32_t count;
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hash(struct text_view text, unsigned char hash[SHA256_DIGEST_LENGTH])
{
    if (text.length != 2 * SHA256_DIGEST_LENGTH) {
        return false;
    }
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        int high = hex_digit(text.data[2 * i]);
        int low = hex_digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        hash[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool add_key(struct key_set *set, struct text_view text, enum key_scope scope)
{
    size_t prefix = strlen(HASH_PREFIX);
    struct key *key = &set->items[set->count];
    if (text.length == 0 || set->count == KEYS_MAX) {
        return false;
    }
    if (text.length > prefix && memcmp(text.data, HASH_PREFIX, prefix) == 0) {
        if (!read_hash(text_view_make(text.data + prefix, text.length - prefix), key->hash)) {
            return false;
        }
    } else {
        SHA256((const unsigned char *)text.data, text.length, key->hash);
    }
    key->scope = scope;
    set->count++;
    return true;
}

/* "key", "key user" or "key admin". */
static bool add_line(struct key_set *set, struct text_view line)
{
    enum key_scope scope = KEY_USER;
    const char *space = memchr(line.data, ' ', line.length);
    if (space) {
        struct text_view word =
            text_view_make(space + 1, line.length - (size_t)(space - line.data) - 1);
        if (text_view_is(word, "admin")) {
            scope = KEY_ADMIN;
        } else if (!text_view_is(word, "user")) {
            return false;
        }
        line.length = (size_t)(space - line.data);
    }
    return add_key(set, line, scope);
}

static llcuda_status add_file(struct key_set *set, const char *path, struct llcuda_error *error)
{
    struct buffer text = {0};
    struct stat facts;
    if (stat(path, &facts) == 0 && (facts.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return error_set(error, LLCUDA_REFUSED,
                         "others than its owner may use the key file '%s': chmod 600 it", path);
    }
    llcuda_status status = file_read_all(path, KEY_FILE_BYTES, &text, error);
    size_t begin = 0;
    uint32_t number = 0;
    while (!status && begin < text.length) {
        const char *end = memchr(text.data + begin, '\n', text.length - begin);
        size_t length = end ? (size_t)(end - text.data) - begin : text.length - begin;
        struct text_view line = text_view_make(text.data + begin, length);
        begin += length + 1;
        number++;
        while (line.length &&
               (line.data[line.length - 1] == '\r' || line.data[line.length - 1] == ' ')) {
            line.length--;
        }
        if (line.length && line.data[0] != '#' && !add_line(set, line)) {
            status = error_set(error, LLCUDA_BAD_FORMAT,
                               "line %u of the key file '%s' is no key, or there are too many",
                               number, path);
        }
    }
    if (text.data) {
        OPENSSL_cleanse(text.data, text.length);
    }
    buffer_deinit(&text);
    return status;
}

static llcuda_status add_list(struct key_set *set, const char *list, struct llcuda_error *error)
{
    while (list && *list) {
        const char *comma = strchr(list, ',');
        struct text_view item = text_view_make(list, comma ? (size_t)(comma - list) : strlen(list));
        if (item.length && !add_key(set, item, KEY_USER)) {
            return error_set(error, LLCUDA_BAD_FORMAT, "a key in the list of API keys is invalid");
        }
        list = comma ? comma + 1 : NULL;
    }
    return LLCUDA_OK;
}

llcuda_status keys_reload(struct keys *keys, struct llcuda_error *error)
{
    struct key_set set = {calloc(KEYS_MAX + 1, sizeof *set.items), 0};
    if (!set.items) {
        return error_no_memory(error, "the API keys", (KEYS_MAX + 1) * sizeof *set.items);
    }
    llcuda_status status = add_list(&set, keys->list, error);
    if (!status && keys->path) {
        status = add_file(&set, keys->path, error);
    }
    if (!status && set.count == 0 && (keys->path || keys->list)) {
        status = error_set(error, LLCUDA_BAD_FORMAT, "API keys are asked for, but there is none");
    }
    if (status) {
        free(set.items);
        return status;
    }
    pthread_rwlock_wrlock(&keys->lock);
    struct key *old = keys->items;
    keys->items = set.items;
    keys->count = set.count;
    pthread_rwlock_unlock(&keys->lock);
    free(old);
    return LLCUDA_OK;
}

llcuda_status keys_create(const char *path, const char *list, struct keys **made,
                          struct llcuda_error *error)
{
    struct keys *keys = calloc(1, sizeof *keys);
    if (!keys) {
        return error_no_memory(error, "the API keys", sizeof *keys);
    }
    keys->path = path;
    keys->list = list;
    pthread_rwlock_init(&keys->lock, NULL);
    llcuda_status status = keys_reload(keys, error);
    if (status) {
        keys_destroy(keys);
        return status;
    }
    *made = keys;
    return LLCUDA_OK;
}

void keys_destroy(struct keys *keys)
{
    if (keys) {
        pthread_rwlock_destroy(&keys->lock);
        free(keys->items);
        free(keys);
    }
}

bool keys_empty(struct keys *keys)
{
    pthread_rwlock_rdlock(&keys->lock);
    bool empty = keys->count == 0;
    pthread_rwlock_unlock(&keys->lock);
    return empty;
}

enum key_scope keys_check(struct keys *keys, struct text_view presented)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    unsigned scope = KEY_NONE;
    if (presented.length == 0) {
        return KEY_NONE;
    }
    SHA256((const unsigned char *)presented.data, presented.length, hash);
    pthread_rwlock_rdlock(&keys->lock);
    for (uint32_t i = 0; i < keys->count; i++) {
        unsigned equal = CRYPTO_memcmp(hash, keys->items[i].hash, sizeof hash) == 0;
        unsigned found = keys->items[i].scope * equal;
        scope = scope > found ? scope : found;
    }
    pthread_rwlock_unlock(&keys->lock);
    return (enum key_scope)scope;
}
