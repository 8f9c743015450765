/* Packs of compiled kernels: open the bytes as they are, and once more with the checksum of the
 * table put right, behind which a fuzzer would not get otherwise; look at and find every item. */
#include "fuzz.h"

#include <stdlib.h>

#include "gpu/kernel_pack.h"

static volatile uint64_t sink;

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void read_pack(const uint8_t *data, size_t size)
{
    struct kernel_pack pack;
    struct llcuda_error error = {0};
    llcuda_status status = kernel_pack_open(&pack, data, size, &error);
    if (status) {
        check(error.status == status && error.message[0]);
        check(error.offset == LLCUDA_NO_OFFSET || error.offset <= size);
        return;
    }
    for (uint32_t i = 0; i < pack.count; i++) {
        struct kernel_pack_item item;
        struct kernel_pack_item found;
        kernel_pack_item(&pack, i, &item);
        check(memchr(item.name, 0, sizeof item.name) != NULL);
        const uint8_t *bytes = item.data;
        for (uint64_t at = 0; at < item.bytes; at++) {
            sink += bytes[at];
        }
        status = kernel_pack_find(&pack, item.key, &found, &error);
        check(status == LLCUDA_OK || status == LLCUDA_BAD_FORMAT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEADER = 64, ROW = 128, AT_COUNT = 12, AT_BYTES = 16, AT_CHECKSUM = 24 };
    uint32_t count;
    const uint64_t bytes = size;
    read_pack(data, size);
    if (size < HEADER) {
        return 0;
    }
    uint8_t *repaired = malloc(size);
    check(repaired != NULL);
    memcpy(repaired, data, size);
    memcpy(&count, data + AT_COUNT, sizeof count);
    if (count <= (size - HEADER) / ROW) {
        memcpy(repaired + AT_BYTES, &bytes, sizeof bytes);
        sha256_of(repaired + HEADER, (size_t)count * ROW, repaired + AT_CHECKSUM);
        read_pack(repaired, size);
    }
    free(repaired);
    return 0;
}
