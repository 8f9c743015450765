/* Owns the reading of a precompiled charsmap. Invariants: no read outside the blob, whatever the
 * units say; prefixes and replacements are whole characters. */
#include "text/charsmap.h"

#include "base/utf8.h"

/* Published maps stay far below both: a prefix of some twenty bytes, a replacement of fifty. */
#define PREFIX_BYTES_MAX      256u
#define REPLACEMENT_BYTES_MAX 1024u

llcuda_status charsmap_open(struct charsmap *map, struct text_view blob, struct llcuda_error *error)
{
    *map = (struct charsmap){0};
    if (blob.length == 0) {
        return LLCUDA_OK;
    }
    uint32_t trie_bytes = 0;
    if (blob.length > sizeof trie_bytes) {
        memcpy(&trie_bytes, blob.data, sizeof trie_bytes);
    }
    if (blob.length <= sizeof trie_bytes || trie_bytes % 4 != 0 || trie_bytes == 0 ||
        trie_bytes >= blob.length - sizeof trie_bytes || blob.data[blob.length - 1] != 0) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "the precompiled charsmap of %zu bytes contradicts its own sizes",
                         blob.length);
    }
    size_t string = 0;
    for (size_t i = sizeof trie_bytes + trie_bytes; i < blob.length; i++) {
        string = blob.data[i] ? string + 1 : 0;
        if (string > REPLACEMENT_BYTES_MAX) {
            return error_set(error, LLCUDA_LIMIT,
                             "the precompiled charsmap has a replacement of more than %u bytes",
                             REPLACEMENT_BYTES_MAX);
        }
    }
    if (!utf8_valid(text_view_make(blob.data + sizeof trie_bytes + trie_bytes,
                                   blob.length - sizeof trie_bytes - trie_bytes))) {
        return error_set(error, LLCUDA_BAD_FORMAT,
                         "the precompiled charsmap has a replacement that is no UTF-8");
    }
    map->units = (const uint8_t *)blob.data + sizeof trie_bytes;
    map->unit_count = trie_bytes / 4;
    map->replacements = text_view_make(blob.data + sizeof trie_bytes + trie_bytes,
                                       blob.length - sizeof trie_bytes - trie_bytes);
    return LLCUDA_OK;
}

static uint32_t unit_at(const struct charsmap *map, uint32_t index)
{
    uint32_t unit = 0; /* of no byte: label 0 */
    if (index < map->unit_count) {
        memcpy(&unit, map->units + 4 * (size_t)index, sizeof unit);
    }
    return unit;
}

static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & 0x200u) >> 6);
}

bool charsmap_find(const struct charsmap *map, struct text_view text, bool longest, size_t *matched,
                   struct text_view *replacement)
{
    if (map->unit_count == 0) {
        return false;
    }
    bool found = false;
    uint32_t value = 0;
    uint32_t position = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < text.length && i < PREFIX_BYTES_MAX; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        position ^= byte;
        uint32_t unit = unit_at(map, position);
        if (byte == 0 || (unit & 0x800000FFu) != byte) {
            break;
        }
        position ^= unit_offset(unit);
        bool whole = i + 1 == text.length || ((uint8_t)text.data[i + 1] & 0xC0) != 0x80;
        if ((unit & 0x100u) && whole) {
            value = unit_at(map, position) & 0x7FFFFFFFu;
            *matched = i + 1;
            found = true;
            if (!longest) {
                break;
            }
        }
    }
    if (!found || value >= map->replacements.length ||
        ((uint8_t)map->replacements.data[value] & 0xC0) == 0x80) {
        return false;
    }
    /* The last byte of the blob is NUL, so this stays inside. */
    const char *start = map->replacements.data + value;
    *replacement = text_view_make(start, strlen(start));
    return true;
}
