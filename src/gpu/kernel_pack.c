/* Owns the layout of files of compiled kernels: a header, a table, the binaries. Invariant of an
 * open pack: the table lies inside the bytes and has its checksum, every binary lies inside the
 * bytes, every name ends. It must not know where the bytes come from. */
#include <string.h>

#include "base/checked.h"
#include "gpu/kernel_pack.h"

#define PACK_VERSION   1u
#define PACK_ITEMS_MAX 4096u

static const char magic[8] = {'L', 'L', 'C', 'U', 'D', 'A', 'K', 'P'};

struct pack_header {
    char magic[8];
    uint32_t version;
    uint32_t count;
    uint64_t file_bytes;
    uint8_t checksum[SHA256_BYTES]; /* of the table */
    uint64_t reserved;              /* 0 */
};
_Static_assert(sizeof(struct pack_header) == 64, "written to disk");

struct pack_row {
    uint8_t key[SHA256_BYTES];
    uint8_t checksum[SHA256_BYTES]; /* of the binary */
    uint64_t offset;
    uint64_t bytes;
    uint32_t compiler_version;
    uint32_t reserved;
    char name[KERNEL_PACK_NAME_BYTES];
};
_Static_assert(sizeof(struct pack_row) == 128, "written to disk");

llcuda_status kernel_pack_write(const struct kernel_pack_item *items, uint32_t count,
                                struct buffer *out, struct llcuda_error *error)
{
    struct pack_header header = {.version = PACK_VERSION, .count = count};
    struct sha256 hash;
    uint64_t offset = sizeof header + (uint64_t)count * sizeof(struct pack_row);
    if (count > PACK_ITEMS_MAX) {
        return error_set(error, LLCUDA_LIMIT, "a pack of %u kernels; at most %u are possible",
                         count, PACK_ITEMS_MAX);
    }
    const size_t start = out->length;
    memcpy(header.magic, magic, sizeof magic);
    buffer_append(out, &header, sizeof header);
    sha256_init(&hash);
    for (uint32_t i = 0; i < count; i++) {
        struct pack_row row = {.offset = offset,
                               .bytes = items[i].bytes,
                               .compiler_version = items[i].compiler_version};
        memcpy(row.key, items[i].key, sizeof row.key);
        memcpy(row.name, items[i].name, sizeof row.name - 1);
        sha256_of(items[i].data, items[i].bytes, row.checksum);
        sha256_update(&hash, &row, sizeof row);
        buffer_append(out, &row, sizeof row);
        offset += items[i].bytes;
    }
    for (uint32_t i = 0; i < count; i++) {
        buffer_append(out, items[i].data, items[i].bytes);
    }
    if (out->failed) {
        return error_no_memory(error, "a pack of kernels", offset);
    }
    header.file_bytes = offset;
    sha256_finish(&hash, header.checksum);
    memcpy(out->data + start, &header, sizeof header);
    return LLCUDA_OK;
}

/* Rows are copied out, since the bytes may lie at any address. */
static struct pack_row row_at(const struct kernel_pack *pack, uint32_t index)
{
    struct pack_row row;
    memcpy(&row, pack->data + sizeof(struct pack_header) + (size_t)index * sizeof row, sizeof row);
    return row;
}

llcuda_status kernel_pack_open(struct kernel_pack *pack, const void *data, uint64_t bytes,
                               struct llcuda_error *error)
{
    struct pack_header header;
    uint8_t checksum[SHA256_BYTES];
    *pack = (struct kernel_pack){0};
    if (bytes < sizeof header) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, bytes,
                            "a pack of kernels ends in its header");
    }
    memcpy(&header, data, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.version != PACK_VERSION ||
        header.reserved != 0) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, 0,
                            "this is no pack of kernels of this version");
    }
    const uint64_t table_bytes = (uint64_t)header.count * sizeof(struct pack_row);
    if (header.count > PACK_ITEMS_MAX || header.file_bytes != bytes ||
        table_bytes > bytes - sizeof header) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, 12,
                            "a pack of %u kernels in %llu bytes does not have its size",
                            header.count, (unsigned long long)bytes);
    }
    const struct kernel_pack found = {data, bytes, header.count};
    sha256_of(found.data + sizeof header, table_bytes, checksum);
    if (memcmp(checksum, header.checksum, sizeof checksum) != 0) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, sizeof header,
                            "the table of a pack of kernels is damaged");
    }
    for (uint32_t i = 0; i < found.count; i++) {
        const struct pack_row row = row_at(&found, i);
        if (row.offset < sizeof header + table_bytes || row.offset > bytes ||
            row.bytes > bytes - row.offset || !memchr(row.name, 0, sizeof row.name)) {
            return error_set_at(error, LLCUDA_BAD_FORMAT, sizeof header + (uint64_t)i * sizeof row,
                                "kernel %u of a pack lies outside of it", i);
        }
    }
    *pack = found;
    return LLCUDA_OK;
}

void kernel_pack_item(const struct kernel_pack *pack, uint32_t index, struct kernel_pack_item *item)
{
    const struct pack_row row = row_at(pack, index);
    *item = (struct kernel_pack_item){.compiler_version = row.compiler_version,
                                      .data = pack->data + row.offset,
                                      .bytes = row.bytes};
    memcpy(item->key, row.key, sizeof item->key);
    memcpy(item->name, row.name, sizeof item->name);
}

llcuda_status kernel_pack_find(const struct kernel_pack *pack, const uint8_t key[SHA256_BYTES],
                               struct kernel_pack_item *item, struct llcuda_error *error)
{
    for (uint32_t i = 0; i < pack->count; i++) {
        const struct pack_row row = row_at(pack, i);
        uint8_t checksum[SHA256_BYTES];
        if (memcmp(row.key, key, SHA256_BYTES) != 0) {
            continue;
        }
        kernel_pack_item(pack, i, item);
        sha256_of(item->data, item->bytes, checksum);
        if (memcmp(checksum, row.checksum, sizeof checksum) != 0) {
            return error_set_at(error, LLCUDA_BAD_FORMAT, row.offset,
                                "the kernel '%s' of a pack is damaged", row.name);
        }
        return LLCUDA_OK;
    }
    return error_set(error, LLCUDA_NOT_FOUND, "a pack has no such kernel");
}
