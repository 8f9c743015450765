/* SafeTensors: open from memory and touch every tensor; the tensors must cover the data exactly. */
#include "fuzz.h"

#include <stdlib.h>

#include "format/safetensors.h"

static volatile uint64_t sink;

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file;
    struct llcuda_error error = {0};
    llcuda_status status = safetensors_open_memory(data, size, &file, &error);
    if (status) {
        check(error.status == status && error.message[0]);
        check(error.offset == LLCUDA_NO_OFFSET || error.offset <= size);
        return 0;
    }
    uint64_t header;
    memcpy(&header, data, sizeof header);
    uint64_t covered = 0;
    for (uint32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(file, i);
        const uint8_t *bytes = tensor->tensor.data;
        check(safetensors_find(file, tensor->tensor.name) == tensor);
        check(tensor->tensor.rank <= TENSOR_RANK_MAX);
        check(tensor_elements(&tensor->tensor) * tensor->type->bits == tensor->tensor.bytes * 8);
        for (uint64_t k = 0; k < tensor->tensor.bytes; k++) {
            sink += bytes[k];
        }
        covered += tensor->tensor.bytes;
    }
    check(covered + header + 8 == size);
    safetensors_close(file);
    return 0;
}
