/* Owns the table of tenants. Invariant: every used entry is in the chain of its name's hash. A
 * tenant's debt (its finish time) is forgotten only when more tenants come than the table holds,
 * the smallest debt first. */
#include "engine/tenants.h"

#include <assert.h>
#include <stdlib.h>

#include "base/random.h"

llcuda_status tenant_table_init(struct tenant_table *table, uint32_t live_max,
                                struct llcuda_error *error)
{
    *table =
        (struct tenant_table){.capacity = 2 * live_max, .bucket_count = 16, .seed = random_seed()};
    while (table->bucket_count < table->capacity) {
        table->bucket_count *= 2;
    }
    table->entries = calloc(table->capacity, sizeof *table->entries);
    table->buckets = malloc(table->bucket_count * sizeof *table->buckets);
    if (!table->entries || !table->buckets) {
        tenant_table_deinit(table);
        return error_no_memory(error, "the table of tenants",
                               (uint64_t)live_max * 2 * sizeof *table->entries);
    }
    memset(table->buckets, 0xFF, table->bucket_count * sizeof *table->buckets);
    for (uint32_t i = 0; i < table->capacity; i++) {
        table->entries[i].next = i + 1 < table->capacity ? i + 1 : TENANT_NONE;
    }
    return LLCUDA_OK;
}

void tenant_table_deinit(struct tenant_table *table)
{
    free(table->buckets);
    free(table->entries);
    *table = (struct tenant_table){0};
}

static uint32_t *bucket_of(struct tenant_table *table, struct text_view name)
{
    uint64_t hash = table->seed ^ name.length;
    for (size_t i = 0; i < name.length; i++) {
        hash = random_mix(hash ^ (unsigned char)name.data[i]);
    }
    return &table->buckets[hash & (table->bucket_count - 1)];
}

static struct text_view name_of(const struct tenant *tenant)
{
    return text_view_make(tenant->name, tenant->name_bytes);
}

/* Forgets the tenant without live sequences that owes least. */
static void recycle(struct tenant_table *table)
{
    uint32_t best = TENANT_NONE;
    for (uint32_t i = 0; i < table->capacity; i++) {
        const struct tenant *tenant = &table->entries[i];
        if (tenant->used && tenant->live == 0 &&
            (best == TENANT_NONE || tenant->finish < table->entries[best].finish)) {
            best = i;
        }
    }
    assert(best != TENANT_NONE);
    uint32_t *link = bucket_of(table, name_of(&table->entries[best]));
    while (*link != best) {
        link = &table->entries[*link].next;
    }
    *link = table->entries[best].next;
    table->entries[best] = (struct tenant){.next = table->free};
    table->free = best;
}

uint32_t tenant_acquire(struct tenant_table *table, struct text_view name)
{
    if (name.length > TENANT_NAME_BYTES) {
        name.length = TENANT_NAME_BYTES;
    }
    uint32_t index = *bucket_of(table, name);
    while (index != TENANT_NONE && !text_view_equal(name_of(&table->entries[index]), name)) {
        index = table->entries[index].next;
    }
    if (index == TENANT_NONE) {
        if (table->free == TENANT_NONE) {
            recycle(table);
        }
        index = table->free;
        struct tenant *tenant = &table->entries[index];
        table->free = tenant->next;
        uint32_t *bucket = bucket_of(table, name);
        *tenant = (struct tenant){
            .name_bytes = (uint32_t)name.length,
            .next = *bucket,
            .used = true,
        };
        if (name.length > 0) {
            memcpy(tenant->name, name.data, name.length);
        }
        *bucket = index;
    }
    table->live += table->entries[index].live == 0;
    table->entries[index].live++;
    return index;
}

void tenant_release(struct tenant_table *table, uint32_t index)
{
    assert(table->entries[index].live > 0);
    table->entries[index].live--;
    table->live -= table->entries[index].live == 0;
}
