/* Size arithmetic that cannot wrap. Each returns false, and leaves *result alone, when the true
 * value does not fit. Use these for every number that comes from outside. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *result)
{
    uint64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *result = sum;
    return true;
}

static inline bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *result)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *result = product;
    return true;
}

/* Rounds up to a multiple of `alignment`, a power of two. */
static inline bool checked_align_up_u64(uint64_t value, uint64_t alignment, uint64_t *result)
{
    uint64_t sum;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 ||
        __builtin_add_overflow(value, alignment - 1, &sum)) {
        return false;
    }
    *result = sum & ~(alignment - 1);
    return true;
}

static inline bool checked_size_from_u64(uint64_t value, size_t *result)
{
    if (value > SIZE_MAX) {
        return false;
    }
    *result = (size_t)value;
    return true;
}

#endif
