/* Owns dicts, hashing, and the conversion of JSON into values. Invariants: entries stay in
 * insertion order and are never removed; equal keys (1, 1.0 and True are equal) share an entry.
 * The hash is seeded per template, so that nobody can prepare colliding keys. */
#include "text/template_value.h"

#include <math.h>

#include "base/limits.h"
#include "base/random.h"

#define DICT_LINEAR_MAX 8u

static uint64_t hash_bytes(uint64_t seed, const char *data, size_t length)
{
    uint64_t hash = seed ^ length;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        hash = random_mix(hash ^ word);
        data += 8;
        length -= 8;
    }
    uint64_t word = 0;
    if (length) {
        memcpy(&word, data, length);
    }
    return random_mix(hash ^ word);
}

static uint64_t hash_float(uint64_t seed, double number)
{
    if (number >= -0x1p63 && number < 0x1p63 && number == trunc(number)) {
        return random_mix(seed ^ (uint64_t)(int64_t)number);
    }
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return random_mix(~seed ^ bits);
}

static bool hash_tuple(struct jinja_render *render, const struct jinja_list *list, uint64_t *hash)
{
    if (!jinja_enter(render) || !jinja_step(render, list->count)) {
        return false;
    }
    *hash = render->seed + list->count;
    for (size_t i = 0; i < list->count; i++) {
        uint64_t item;
        if (!jinja_hash(render, list->items[i], &item)) {
            return false;
        }
        *hash = random_mix(*hash ^ item);
    }
    jinja_leave(render);
    return true;
}

bool jinja_hash(struct jinja_render *render, struct jinja_value value, uint64_t *hash)
{
    switch ((enum jinja_kind)value.kind) {
    case JINJA_LIST:
    case JINJA_DICT:
        return jinja_fail(render, "unhashable type: '%s'", jinja_type_name(value));
    case JINJA_VIEW:
        return jinja_fail(render, "unhashable type: '%s'", jinja_type_name(value));
    case JINJA_TUPLE:
        return hash_tuple(render, value.list, hash);
    case JINJA_STRING:
        *hash = hash_bytes(render->seed, value.string->data, value.string->length);
        return jinja_step(render, value.string->length / 64);
    case JINJA_FLOAT:
        *hash = hash_float(render->seed, value.number);
        return true;
    case JINJA_BOOL:
        *hash = random_mix(render->seed ^ (uint64_t)value.boolean);
        return true;
    case JINJA_INTEGER:
        *hash = random_mix(render->seed ^ (uint64_t)value.integer);
        return true;
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        *hash = random_mix(render->seed + value.kind);
        return true;
    default:
        *hash = random_mix(render->seed ^ (uint64_t)(uintptr_t)value.macro);
        return true;
    }
}

struct jinja_dict *jinja_dict_make(struct jinja_render *render, size_t capacity)
{
    if (capacity > UINT32_MAX / 4) {
        jinja_fail_limit(render, "a dict is too large");
        return NULL;
    }
    struct jinja_dict *dict = jinja_alloc(render, 1, sizeof *dict);
    if (!dict) {
        return NULL;
    }
    dict->entries = jinja_alloc(render, capacity, sizeof *dict->entries);
    if (!dict->entries) {
        return NULL;
    }
    dict->capacity = (uint32_t)capacity;
    return dict;
}

static void index_add(struct jinja_dict *dict, uint32_t entry)
{
    uint32_t slot = (uint32_t)dict->entries[entry].hash & dict->index_mask;
    while (dict->index[slot]) {
        slot = (slot + 1) & dict->index_mask;
    }
    dict->index[slot] = entry + 1;
}

/* Makes room for one more entry; the index holds at least twice as many slots as entries fit. */
static bool dict_grow(struct jinja_render *render, struct jinja_dict *dict)
{
    if (dict->count == dict->capacity) {
        uint32_t capacity = dict->capacity ? dict->capacity * 2 : 4;
        if (dict->capacity > UINT32_MAX / 8) {
            return jinja_fail_limit(render, "a dict is too large");
        }
        struct jinja_entry *entries = jinja_alloc(render, capacity, sizeof *entries);
        if (!entries || !jinja_step(render, dict->count)) {
            return false;
        }
        if (dict->count) {
            memcpy(entries, dict->entries, dict->count * sizeof *entries);
        }
        dict->entries = entries;
        dict->capacity = capacity;
    }
    if (dict->count < DICT_LINEAR_MAX || (dict->index && dict->count < dict->index_mask / 2)) {
        return true;
    }
    uint32_t size = 32;
    while (size < dict->count * 4) {
        size *= 2;
    }
    dict->index = jinja_alloc(render, size, sizeof *dict->index);
    if (!dict->index) {
        return false;
    }
    dict->index_mask = size - 1;
    for (uint32_t i = 0; i < dict->count; i++) {
        index_add(dict, i);
    }
    return true;
}

static bool key_matches(struct jinja_render *render, const struct jinja_entry *entry,
                        struct jinja_value key, uint64_t hash, bool *match)
{
    *match = false;
    if (entry->hash != hash) {
        return true;
    }
    if (entry->key.kind == JINJA_STRING && key.kind == JINJA_STRING) {
        *match = text_view_equal(jinja_text(entry->key), jinja_text(key));
        return true;
    }
    return jinja_equal(render, entry->key, key, match);
}

static bool find_hashed(struct jinja_render *render, const struct jinja_dict *dict,
                        struct jinja_value key, uint64_t hash, struct jinja_entry **found)
{
    bool match;
    *found = NULL;
    if (!dict->index) {
        for (uint32_t i = 0; i < dict->count; i++) {
            if (!key_matches(render, &dict->entries[i], key, hash, &match)) {
                return false;
            }
            if (match) {
                *found = &dict->entries[i];
                return true;
            }
        }
        return true;
    }
    for (uint32_t slot = (uint32_t)hash & dict->index_mask; dict->index[slot];
         slot = (slot + 1) & dict->index_mask) {
        struct jinja_entry *entry = &dict->entries[dict->index[slot] - 1];
        if (!key_matches(render, entry, key, hash, &match)) {
            return false;
        }
        if (match) {
            *found = entry;
            return true;
        }
    }
    return true;
}

bool jinja_dict_find(struct jinja_render *render, const struct jinja_dict *dict,
                     struct jinja_value key, struct jinja_entry **found)
{
    uint64_t hash = 0;
    return jinja_hash(render, key, &hash) && find_hashed(render, dict, key, hash, found);
}

struct jinja_entry *jinja_dict_find_text(struct jinja_render *render, const struct jinja_dict *dict,
                                         struct text_view key)
{
    struct jinja_string string = {.data = key.data, .length = key.length};
    struct jinja_entry *found = NULL;
    uint64_t hash = hash_bytes(render->seed, key.data, key.length);
    /* Cannot fail: a string is hashable, and equality of strings needs no budget. */
    if (!find_hashed(render, dict, jinja_string_value(&string), hash, &found)) {
        return NULL;
    }
    return found;
}

bool jinja_dict_set(struct jinja_render *render, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value)
{
    uint64_t hash = 0;
    struct jinja_entry *found;
    if (!jinja_hash(render, key, &hash) || !find_hashed(render, dict, key, hash, &found)) {
        return false;
    }
    if (found) {
        found->value = value;
        return true;
    }
    if (!dict_grow(render, dict)) {
        return false;
    }
    dict->entries[dict->count] = (struct jinja_entry){key, value, hash};
    dict->count++;
    if (dict->index) {
        index_add(dict, dict->count - 1);
    }
    return true;
}

/* --- JSON --- */

static bool string_from_json(struct jinja_render *render, const struct json_value *json, bool copy,
                             struct jinja_value *out)
{
    return copy ? jinja_string_copy(render, json_text(json), out)
                : jinja_string_borrow(render, json_text(json), out);
}

static bool list_from_json(struct jinja_render *render, const struct json_value *json, bool copy,
                           struct jinja_value *out)
{
    struct jinja_value *items = jinja_alloc(render, json->count, sizeof *items);
    if (!items) {
        return false;
    }
    size_t count = 0;
    JSON_EACH(element, json)
    {
        if (!jinja_from_json(render, element, copy, &items[count++])) {
            return false;
        }
    }
    return jinja_list_make(render, JINJA_LIST, items, count, out);
}

static bool dict_from_json(struct jinja_render *render, const struct json_value *json, bool copy,
                           struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_dict_make(render, json->count);
    if (!dict) {
        return false;
    }
    JSON_EACH_KEY(key, json)
    {
        struct jinja_value name;
        struct jinja_value value;
        if (!string_from_json(render, key, copy, &name) ||
            !jinja_from_json(render, json_next(key), copy, &value) ||
            !jinja_dict_set(render, dict, name, value)) {
            return false;
        }
    }
    *out = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    return true;
}

/* The depth of parsed JSON is bounded by its own limit, which is lower than ours. */
bool jinja_from_json(struct jinja_render *render, const struct json_value *json, bool copy,
                     struct jinja_value *out)
{
    if (!jinja_enter(render)) {
        return false;
    }
    bool ok = true;
    switch ((enum json_kind)json->kind) {
    case JSON_NULL:
        *out = jinja_none();
        break;
    case JSON_FALSE:
    case JSON_TRUE:
        *out = jinja_bool(json->kind == JSON_TRUE);
        break;
    case JSON_INTEGER:
        *out = jinja_integer(json->integer);
        break;
    case JSON_NUMBER:
        *out = jinja_float(json->number);
        break;
    case JSON_STRING:
        ok = string_from_json(render, json, copy, out);
        break;
    case JSON_ARRAY:
        ok = list_from_json(render, json, copy, out);
        break;
    case JSON_OBJECT:
        ok = dict_from_json(render, json, copy, out);
        break;
    }
    jinja_leave(render);
    return ok;
}
