/* Owns the set of API keys and the accounts behind them. What is kept is a hash of each, so that
 * neither a core dump nor a log shows one; all hashes are compared each time, without an early end.
 * An account belongs to a hash for the life of the process; its limits may change by a reload. */
#include "server/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"

#define KEYS_MAX       4096u
#define KEY_FILE_BYTES (1u << 20)
#define HASH_PREFIX    "sha256:"

struct key_account {
    struct key_account *next;
    unsigned char hash[SHA256_DIGEST_LENGTH];
    char name[KEY_NAME_BYTES];
    pthread_mutex_t mutex;
    struct key_limits limits;
    uint32_t live;    /* requests now */
    double allowance; /* requests that may begin at once: a bucket that fills by the rate */
    uint64_t filled_ns;
};

struct key {
    unsigned char hash[SHA256_DIGEST_LENGTH];
    enum key_scope scope;
    char name[KEY_NAME_BYTES];
    struct key_limits limits;
    struct key_account *account;
};

struct keys {
    const char *path;
    const char *list;
    struct key_limits limits;
    pthread_rwlock_t lock;
    struct key *items;
    uint32_t count;
    struct key_account *accounts; /* of all keys that there ever were */
    struct key_account anonymous;
};

struct key_set {
    struct key *items;
    uint32_t count;
    struct key_limits limits;
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
    key->limits = set->limits;
    snprintf(key->name, sizeof key->name, "key-%02x%02x%02x%02x", key->hash[0], key->hash[1],
             key->hash[2], key->hash[3]);
    set->count++;
    return true;
}

static bool read_number(struct text_view text, uint32_t *number)
{
    uint32_t value = 0;
    if (text.length == 0 || text.length > 7) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = 10 * value + (uint32_t)(text.data[i] - '0');
    }
    *number = value;
    return true;
}

/* A name goes into logs and header-like places: letters, digits, '-', '_' and '.'. */
static bool read_name(struct text_view text, char *name)
{
    if (text.length == 0 || text.length >= KEY_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == '.')) {
            return false;
        }
    }
    memcpy(name, text.data, text.length);
    name[text.length] = 0;
    return true;
}

static bool read_word(struct key *key, struct text_view word)
{
    const char *equals = memchr(word.data, '=', word.length);
    if (!equals) {
        bool admin = text_view_is(word, "admin");
        key->scope = admin ? KEY_ADMIN : KEY_USER;
        return admin || text_view_is(word, "user");
    }
    struct text_view left = text_view_make(word.data, (size_t)(equals - word.data));
    struct text_view right = text_view_make(equals + 1, word.length - left.length - 1);
    if (text_view_is(left, "name")) {
        return read_name(right, key->name);
    }
    if (text_view_is(left, "concurrency")) {
        return read_number(right, &key->limits.concurrency);
    }
    return text_view_is(left, "rate") && read_number(right, &key->limits.rate);
}

/* The next word of a line; no data at its end. */
static struct text_view next_word(struct text_view *line)
{
    while (line->length && line->data[0] == ' ') {
        line->data++;
        line->length--;
    }
    const char *space = memchr(line->data, ' ', line->length);
    struct text_view word =
        text_view_make(line->data, space ? (size_t)(space - line->data) : line->length);
    line->data += word.length;
    line->length -= word.length;
    return word;
}

/* A key, then words. */
static bool add_line(struct key_set *set, struct text_view line)
{
    if (!add_key(set, next_word(&line), KEY_USER)) {
        return false;
    }
    for (struct text_view word = next_word(&line); word.length; word = next_word(&line)) {
        if (!read_word(&set->items[set->count - 1], word)) {
            return false;
        }
    }
    return true;
}

static llcuda_status add_file(struct key_set *set, const char *path, struct llcuda_error *error)
{
    struct buffer text = {0};
    struct stat facts;
    /* Its group may read it: that is how service managers and clusters hand secrets over. */
    if (stat(path, &facts) == 0 && (facts.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0) {
        return error_set(error, LLCUDA_REFUSED,
                         "others may read or change the key file '%s': chmod 600 it", path);
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

/* ------------------------------------------------------------------ accounts */

static void account_set(struct key_account *account, const struct key_limits *limits,
                        const char *name)
{
    pthread_mutex_lock(&account->mutex);
    if (account->limits.rate != limits->rate) {
        account->allowance = limits->rate;
        account->filled_ns = clock_now_ns();
    }
    account->limits = *limits;
    snprintf(account->name, sizeof account->name, "%s", name);
    pthread_mutex_unlock(&account->mutex);
}

/* The account of a key, made when there is none yet. Under the write lock. */
static bool find_account(struct keys *keys, struct key *key)
{
    struct key_account *account = keys->accounts;
    while (account && memcmp(account->hash, key->hash, sizeof key->hash) != 0) {
        account = account->next;
    }
    if (!account) {
        account = calloc(1, sizeof *account);
        if (!account) {
            return false;
        }
        pthread_mutex_init(&account->mutex, NULL);
        memcpy(account->hash, key->hash, sizeof key->hash);
        account->next = keys->accounts;
        keys->accounts = account;
    }
    account_set(account, &key->limits, key->name);
    key->account = account;
    return true;
}

enum key_verdict key_account_begin(struct key_account *account, uint32_t *wait_s)
{
    enum key_verdict verdict = KEY_MAY;
    pthread_mutex_lock(&account->mutex);
    const struct key_limits *limits = &account->limits;
    uint64_t now_ns = clock_now_ns();
    if (limits->rate > 0) {
        double a_second = limits->rate / 60.0;
        account->allowance += (double)(now_ns - account->filled_ns) / 1e9 * a_second;
        account->filled_ns = now_ns;
        if (account->allowance > limits->rate) {
            account->allowance = limits->rate;
        }
        if (account->allowance < 1) {
            *wait_s = (uint32_t)((1 - account->allowance) / a_second) + 1;
            verdict = KEY_TOO_OFTEN;
        }
    }
    if (verdict == KEY_MAY && limits->concurrency > 0 && account->live >= limits->concurrency) {
        verdict = KEY_TOO_MANY;
    }
    if (verdict == KEY_MAY) {
        account->allowance -= limits->rate > 0 ? 1 : 0;
        account->live++;
    }
    pthread_mutex_unlock(&account->mutex);
    return verdict;
}

void key_account_end(struct key_account *account)
{
    pthread_mutex_lock(&account->mutex);
    account->live--;
    pthread_mutex_unlock(&account->mutex);
}

void key_account_name(struct key_account *account, char name[KEY_NAME_BYTES])
{
    pthread_mutex_lock(&account->mutex);
    memcpy(name, account->name, KEY_NAME_BYTES);
    pthread_mutex_unlock(&account->mutex);
}

struct key_account *keys_anonymous(struct keys *keys)
{
    return &keys->anonymous;
}

/* ------------------------------------------------------------------ the set */

llcuda_status keys_reload(struct keys *keys, struct llcuda_error *error)
{
    struct key_set set = {.items = calloc(KEYS_MAX + 1, sizeof *set.items), .limits = keys->limits};
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
    pthread_rwlock_wrlock(&keys->lock);
    for (uint32_t i = 0; i < set.count && !status; i++) {
        if (!find_account(keys, &set.items[i])) {
            status = error_no_memory(error, "a key's account", sizeof(struct key_account));
        }
    }
    struct key *old = set.items;
    if (!status) {
        old = keys->items;
        keys->items = set.items;
        keys->count = set.count;
    }
    pthread_rwlock_unlock(&keys->lock);
    free(old);
    return status;
}

llcuda_status keys_create(const char *path, const char *list, const struct key_limits *limits,
                          struct keys **made, struct llcuda_error *error)
{
    struct keys *keys = calloc(1, sizeof *keys);
    if (!keys) {
        return error_no_memory(error, "the API keys", sizeof *keys);
    }
    keys->path = path;
    keys->list = list;
    keys->limits = *limits;
    pthread_rwlock_init(&keys->lock, NULL);
    pthread_mutex_init(&keys->anonymous.mutex, NULL);
    account_set(&keys->anonymous, limits, "");
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
    if (!keys) {
        return;
    }
    while (keys->accounts) {
        struct key_account *account = keys->accounts;
        keys->accounts = account->next;
        pthread_mutex_destroy(&account->mutex);
        free(account);
    }
    pthread_mutex_destroy(&keys->anonymous.mutex);
    pthread_rwlock_destroy(&keys->lock);
    free(keys->items);
    free(keys);
}

bool keys_empty(struct keys *keys)
{
    pthread_rwlock_rdlock(&keys->lock);
    bool empty = keys->count == 0;
    pthread_rwlock_unlock(&keys->lock);
    return empty;
}

enum key_scope keys_check(struct keys *keys, struct text_view presented,
                          struct key_account **account)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    uint32_t found = UINT32_MAX;
    enum key_scope scope = KEY_NONE;
    if (presented.length == 0) {
        return KEY_NONE;
    }
    SHA256((const unsigned char *)presented.data, presented.length, hash);
    pthread_rwlock_rdlock(&keys->lock);
    for (uint32_t i = 0; i < keys->count; i++) {
        /* All ones where they are equal: no branch on a comparison's outcome. */
        uint32_t equal = -(uint32_t)(CRYPTO_memcmp(hash, keys->items[i].hash, sizeof hash) == 0);
        found = (found & ~equal) | (i & equal);
    }
    if (found != UINT32_MAX) {
        scope = keys->items[found].scope;
        *account = keys->items[found].account;
    }
    pthread_rwlock_unlock(&keys->lock);
    return scope;
}
