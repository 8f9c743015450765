/* Owns index sorting (heap sort: in place and never quadratic) and name lookup by binary search.
 * Names compare by length first, because names in model files share long beginnings. */
#include "format/order.h"

#include <stdlib.h>

static void sift_down(uint32_t *order, uint32_t begin, uint32_t count,
                      bool (*less)(const void *, uint32_t, uint32_t), const void *context)
{
    uint32_t root = begin;
    uint32_t moved = order[root];
    while (root < count / 2) {
        uint32_t child = 2 * root + 1;
        if (child + 1 < count && less(context, order[child], order[child + 1])) {
            child++;
        }
        if (!less(context, moved, order[child])) {
            break;
        }
        order[root] = order[child];
        root = child;
    }
    order[root] = moved;
}

void order_sort(uint32_t *order, uint32_t count,
                bool (*less)(const void *context, uint32_t a, uint32_t b), const void *context)
{
    bool sorted = true;
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
        sorted = sorted && (i == 0 || !less(context, i, i - 1));
    }
    if (sorted) {
        return;
    }
    for (uint32_t i = count / 2; i > 0; i--) {
        sift_down(order, i - 1, count, less, context);
    }
    for (uint32_t end = count - 1; end > 0; end--) {
        uint32_t largest = order[0];
        order[0] = order[end];
        order[end] = largest;
        sift_down(order, 0, end, less, context);
    }
}

static int compare(struct text_view a, struct text_view b)
{
    if (a.length != b.length) {
        return a.length < b.length ? -1 : 1;
    }
    return a.length ? memcmp(a.data, b.data, a.length) : 0;
}

/* Equal names in the order of their indices, so that the duplicate is the later one. */
static bool name_less(const void *context, uint32_t a, uint32_t b)
{
    const struct name_index *index = context;
    int result = compare(index->name_of(index->items, a), index->name_of(index->items, b));
    return result < 0 || (result == 0 && a < b);
}

llcuda_status name_index_init(struct name_index *index, const void *items, uint32_t count,
                              struct text_view (*name_of)(const void *items, uint32_t index),
                              uint32_t *duplicate, struct llcuda_error *error)
{
    *index = (struct name_index){.count = count, .items = items, .name_of = name_of};
    *duplicate = ORDER_NONE;
    index->order = malloc((count ? count : 1) * sizeof *index->order);
    if (!index->order) {
        return error_no_memory(error, "a table of names", count * sizeof *index->order);
    }
    order_sort(index->order, count, name_less, index);
    for (uint32_t i = 1; i < count && *duplicate == ORDER_NONE; i++) {
        if (text_view_equal(name_of(items, index->order[i - 1]), name_of(items, index->order[i]))) {
            *duplicate = index->order[i];
        }
    }
    return LLCUDA_OK;
}

void name_index_deinit(struct name_index *index)
{
    free(index->order);
    *index = (struct name_index){0};
}

uint32_t name_index_find(const struct name_index *index, struct text_view name)
{
    uint32_t low = 0;
    uint32_t high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t item = index->order[middle];
        int result = compare(index->name_of(index->items, item), name);
        if (result == 0) {
            return item;
        }
        if (result < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return ORDER_NONE;
}
