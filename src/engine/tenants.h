/* The scheduler's account of who has asked for how much: one entry a tenant name, compared by
 * content. Virtual time is in 1/16 tokens. One owner; nothing is allocated after init. */
#ifndef ENGINE_TENANTS_H
#define ENGINE_TENANTS_H

#include "base/error.h"
#include "base/view.h"

#define TENANT_NAME_BYTES 128u
#define TENANT_NONE       UINT32_MAX

struct tenant {
    char name[TENANT_NAME_BYTES];
    uint32_t name_bytes;
    uint32_t live;  /* sequences */
    uint32_t next;  /* hash chain, or the list of free entries */
    int64_t finish; /* virtual time at which all that it has asked for is served */
    bool used;      /* in a hash chain */
};

struct tenant_table {
    struct tenant *entries;
    uint32_t *buckets;
    uint32_t bucket_count; /* a power of two */
    uint64_t seed;         /* of the hash */
    uint32_t capacity;
    uint32_t free; /* first free entry */
    uint32_t live; /* tenants with live sequences */
};

/* Room for `live_max` tenants with live sequences at once, and as many remembered ones. */
llcuda_status tenant_table_init(struct tenant_table *table, uint32_t live_max,
                                struct llcuda_error *error);
void tenant_table_deinit(struct tenant_table *table);

/* The entry of a name (cut to TENANT_NAME_BYTES), one live sequence more. */
uint32_t tenant_acquire(struct tenant_table *table, struct text_view name);
/* One less. An entry without live sequences is remembered until its place is needed. */
void tenant_release(struct tenant_table *table, uint32_t index);

#endif
