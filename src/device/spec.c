/* Owns the grammar of device names: a kind, then for GPUs perhaps a colon and a list of indices
 * without repetition. Stateless: any thread. */
#include "device/spec.h"

static const char *const kind_names[] = {
    [DEVICE_AUTO] = "auto", [DEVICE_CPU] = "cpu", [DEVICE_CUDA] = "cuda",
    [DEVICE_HIP] = "hip",   [DEVICE_EMU] = "emu",
};

#define KIND_COUNT (sizeof kind_names / sizeof kind_names[0])

const char *device_kind_name(enum device_kind kind)
{
    return (unsigned)kind < KIND_COUNT ? kind_names[kind] : "unknown";
}

static llcuda_status refuse(struct text_view text, const char *why, struct llcuda_error *error)
{
    return error_set(error, LLCUDA_INVALID_ARGUMENT,
                     "device '%.*s': %s (wanted is auto, cpu, cuda, cuda:0,1, hip:0 or emu)",
                     TEXT_ARGUMENTS(text), why);
}

/* Reads a number of at most four digits at *at. */
static bool read_index(struct text_view text, size_t *at, uint32_t *index)
{
    size_t begin = *at;
    uint32_t value = 0;
    while (*at < text.length && text.data[*at] >= '0' && text.data[*at] <= '9' && *at - begin < 4) {
        value = value * 10 + (uint32_t)(text.data[*at] - '0');
        (*at)++;
    }
    *index = value;
    return *at > begin;
}

static llcuda_status read_list(struct text_view text, size_t at, struct device_spec *spec,
                               struct llcuda_error *error)
{
    for (;;) {
        uint32_t index;
        if (!read_index(text, &at, &index)) {
            return refuse(text, "a device number is missing", error);
        }
        for (uint32_t i = 0; i < spec->count; i++) {
            if (spec->indices[i] == index) {
                return refuse(text, "a device number is repeated", error);
            }
        }
        if (spec->count == DEVICE_SPEC_INDEX_MAX) {
            return refuse(text, "too many devices", error);
        }
        spec->indices[spec->count++] = index;
        if (at == text.length) {
            return LLCUDA_OK;
        }
        if (text.data[at++] != ',') {
            return refuse(text, "device numbers are separated by commas", error);
        }
    }
}

llcuda_status device_spec_parse(struct text_view text, struct device_spec *spec,
                                struct llcuda_error *error)
{
    *spec = (struct device_spec){.kind = DEVICE_AUTO};
    if (text.length == 0) {
        return LLCUDA_OK;
    }
    size_t length = 0;
    while (length < text.length && text.data[length] != ':') {
        length++;
    }
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        if (!text_view_is(text_view_make(text.data, length), kind_names[kind])) {
            continue;
        }
        spec->kind = (enum device_kind)kind;
        if (length == text.length) {
            return LLCUDA_OK;
        }
        if (spec->kind != DEVICE_CUDA && spec->kind != DEVICE_HIP) {
            return refuse(text, "only cuda and hip devices are numbered", error);
        }
        return read_list(text, length + 1, spec, error);
    }
    return refuse(text, "unknown kind", error);
}
