/* Owns reading lists of sizes, and what follows from the options alone. Stateless. */
#include "bench/local.h"

#define SIZE_MAX_TOKENS 16777216u

static llcuda_status refuse(const char *option, uint32_t minimum, struct llcuda_error *error)
{
    return error_set(error, LLCUDA_INVALID_ARGUMENT,
                     "%s takes up to %u numbers from %u to %u with commas between them", option,
                     LOCAL_LIST_MAX, minimum, SIZE_MAX_TOKENS);
}

llcuda_status local_list_read(struct local_list *list, const char *option, const char *text,
                              uint32_t minimum, struct llcuda_error *error)
{
    list->count = 0;
    for (const char *at = text;; at++) {
        uint64_t value = 0;
        const char *begin = at;
        while (*at >= '0' && *at <= '9' && value <= SIZE_MAX_TOKENS) {
            value = value * 10 + (uint64_t)(*at++ - '0');
        }
        if (at == begin || value < minimum || value > SIZE_MAX_TOKENS ||
            list->count == LOCAL_LIST_MAX || (*at != ',' && *at != 0)) {
            return refuse(option, minimum, error);
        }
        list->values[list->count++] = (uint32_t)value;
        if (*at == 0) {
            return LLCUDA_OK;
        }
    }
}

static uint32_t largest(const struct local_list *list)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        most = list->values[i] > most ? list->values[i] : most;
    }
    return most;
}

uint32_t local_context_length(const struct local_options *options)
{
    /* A block more than asked for: the token that a generation begins with, and the last one. */
    return largest(&options->depths) + largest(&options->prompts) + largest(&options->generations) +
           KV_BLOCK_TOKENS;
}
