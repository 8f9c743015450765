/* Orders of indices, and names that are unique and can be looked up. Sorting instead of hashing:
 * its worst case is n log n whatever names a file has prepared, and it needs 4 bytes a name. */
#ifndef FORMAT_ORDER_H
#define FORMAT_ORDER_H

#include "base/error.h"
#include "base/utf8.h"
#include "base/view.h"

#define ORDER_NONE UINT32_MAX

/* Fills order[0..count) with 0..count-1 sorted by `less`, a strict weak order. In place, O(n log n)
 * always, linear when they are in order already. */
void order_sort(uint32_t *order, uint32_t count,
                bool (*less)(const void *context, uint32_t a, uint32_t b), const void *context);

/* `items` with names, which name_of fetches. Owns `order` only. */
struct name_index {
    uint32_t *order;
    uint32_t count;
    const void *items;
    struct text_view (*name_of)(const void *items, uint32_t index);
};

/* Builds the index over items which the caller keeps alive and in place. *duplicate becomes
 * ORDER_NONE, or the index of an item that has the same name as an earlier one; the caller then
 * refuses. Fails only without memory. */
llcuda_status name_index_init(struct name_index *index, const void *items, uint32_t count,
                              struct text_view (*name_of)(const void *items, uint32_t index),
                              uint32_t *duplicate, struct llcuda_error *error);
void name_index_deinit(struct name_index *index);

/* The item of that name, or ORDER_NONE. */
uint32_t name_index_find(const struct name_index *index, struct text_view name);

/* The beginning of a name from a file, short enough to be quoted in a message and not cut inside a
 * character. The name is valid UTF-8. */
static inline struct text_view name_clip(struct text_view name)
{
    if (name.length > 80) {
        name.length = utf8_complete_length(text_view_make(name.data, 80));
    }
    return name;
}

#endif
