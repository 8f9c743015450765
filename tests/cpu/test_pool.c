/* The worker pool: every item once, however many threads and however they come and go; what the
 * machine's topology and CPU flags say. */
#include <stdatomic.h>
#include <time.h>

#include "cpu/features.h"
#include "cpu/pool.h"
#include "cpu/topology_places.h"
#include "support/test_support.h"

struct tally {
    _Atomic uint32_t counts[2000];
    _Atomic uint32_t busy[16]; /* workers inside an item */
    _Atomic uint32_t trouble;
    uint32_t threads;
    uint64_t plain[2000]; /* written without atomics: the pool itself must order it */
};

static void nap(long nanoseconds)
{
    struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}

static void count_item(void *context, uint32_t worker, uint64_t item)
{
    struct tally *tally = context;
    if (worker >= tally->threads || atomic_fetch_add(&tally->busy[worker], 1) != 0) {
        atomic_fetch_add(&tally->trouble, 1);
    }
    if (worker > 0 && item % 32 == 7) {
        nap(50000); /* the others are done long before */
    }
    atomic_fetch_add(&tally->counts[item], 1);
    tally->plain[item]++;
    atomic_fetch_sub(&tally->busy[worker], 1);
}

static void every_item_runs_once(void **state)
{
    (void)state;
    static struct tally tally;
    for (uint32_t threads = 1; threads <= 8; threads++) {
        struct pool *pool;
        struct llcuda_error error;
        memset(&tally, 0, sizeof tally);
        tally.threads = threads;
        assert_ok(pool_create(threads, NULL, 0, &pool, &error), error);
        assert_int_equal(pool_thread_count(pool), threads);
        uint32_t expected[2000] = {0};
        for (int round = 0; round < 400; round++) {
            uint64_t items = test_random_below(round % 50 == 0 ? 2000 : 20);
            pool_run(pool, items, count_item, &tally);
            for (uint64_t i = 0; i < items; i++) {
                expected[i]++;
                assert_int_equal(tally.plain[i], expected[i]);
            }
            if (round % 100 == 0) {
                nap(1000000); /* long enough for the others to fall asleep */
            }
        }
        pool_destroy(pool);
        assert_int_equal(atomic_load(&tally.trouble), 0);
        for (int i = 0; i < 2000; i++) {
            assert_int_equal(atomic_load(&tally.counts[i]), expected[i]);
            assert_int_equal(tally.plain[i], expected[i]);
        }
    }
}

struct ranges {
    struct tally tally;
    uint64_t most, item_count;
    _Atomic uint32_t shortest;
};

static void count_range(void *context, uint32_t worker, uint64_t begin, uint64_t end)
{
    struct ranges *ranges = context;
    uint32_t length = (uint32_t)(end - begin);
    if (begin >= end || end > ranges->item_count ||
        begin / ranges->most != (end - 1) / ranges->most) {
        atomic_fetch_add(&ranges->tally.trouble, 1);
        return;
    }
    uint32_t shortest = atomic_load(&ranges->shortest);
    while (length < shortest &&
           !atomic_compare_exchange_weak(&ranges->shortest, &shortest, length)) {
    }
    for (uint64_t item = begin; item < end; item++) {
        count_item(&ranges->tally, worker, item);
    }
}

/* Every item once, no range across a multiple of the most, and of several threads nobody is long
 * alone with the last one. */
static void ranges_become_short(void **state)
{
    (void)state;
    static struct ranges ranges;
    for (uint32_t threads = 1; threads <= 8; threads++) {
        struct pool *pool;
        struct llcuda_error error;
        assert_ok(pool_create(threads, NULL, 0, &pool, &error), error);
        for (int round = 0; round < 100; round++) {
            memset(&ranges, 0, sizeof ranges);
            ranges.tally.threads = threads;
            ranges.most = 1 + test_random_below(round % 2 ? 40 : 4);
            ranges.item_count = test_random_below(round % 10 == 0 ? 2000 : 100);
            ranges.shortest = UINT32_MAX;
            pool_run_ranges(pool, ranges.item_count, ranges.most, count_range, &ranges);
            assert_int_equal(ranges.tally.trouble, 0);
            for (uint64_t i = 0; i < ranges.item_count; i++) {
                assert_int_equal(ranges.tally.plain[i], 1);
            }
            if (threads > 1 && ranges.item_count > 0) {
                assert_int_equal(ranges.shortest, 1);
            }
        }
        pool_destroy(pool);
    }
}

/* What each worker ran first, and whether its own items came in order. */
struct shares {
    _Atomic uint32_t arrived;
    uint32_t threads;
    uint64_t first[8], last_own[8];
    bool begun[8], disordered;
};

/* Nobody goes on before everybody has his first item. */
static void note_share(void *context, uint32_t worker, uint64_t item)
{
    struct shares *shares = context;
    if (shares->begun[worker]) {
        bool own = item > shares->last_own[worker] &&
                   (worker + 1 == shares->threads || item < shares->first[worker + 1]);
        bool skipped = own && item != shares->last_own[worker] + 1;
        shares->disordered = shares->disordered || skipped;
        shares->last_own[worker] = own ? item : shares->last_own[worker];
        return;
    }
    shares->begun[worker] = true;
    shares->first[worker] = shares->last_own[worker] = item;
    atomic_fetch_add(&shares->arrived, 1);
    for (int i = 0; i < 20000 && atomic_load(&shares->arrived) < shares->threads; i++) {
        nap(50000);
    }
}

/* A share begins where pool_share_begin says, so that what is packed or fetched for a worker is
 * what it will read; and its owner goes through it from the front. */
static void shares_begin_where_promised(void **state)
{
    (void)state;
    static const char somewhere[3000];
    for (uint32_t threads = 2; threads <= 8; threads++) {
        struct pool *pool;
        struct llcuda_error error;
        assert_ok(pool_create(threads, NULL, 0, &pool, &error), error);
        for (uint64_t items = threads; items < 40; items += 1 + test_random_below(7)) {
            struct shares shares = {.threads = threads};
            for (uint32_t i = 0; i < threads; i++) {
                /* Any address and any length will do. */
                pool_fetch_meanwhile(pool, i, i % 2 ? somewhere : NULL, i * 1000);
            }
            pool_run(pool, items, note_share, &shares);
            assert_int_equal(atomic_load(&shares.arrived), threads);
            assert_false(shares.disordered);
            for (uint32_t i = 0; i < threads; i++) {
                assert_int_equal(shares.first[i], pool_share_begin(pool, i, items));
            }
        }
        pool_destroy(pool);
    }
}

static void idle_threads_use_no_time(void **state)
{
    (void)state;
    struct pool *pool;
    struct llcuda_error error;
    static struct tally tally;
    tally.threads = 4;
    assert_ok(pool_create(4, NULL, 0, &pool, &error), error);
    pool_run(pool, 100, count_item, &tally);
    nap(20000000);
    clock_t before = clock();
    nap(200000000);
    clock_t used = clock() - before;
    pool_destroy(pool);
    assert_true((double)used / CLOCKS_PER_SEC < 0.02);
}

static void pinned_threads_work(void **state)
{
    (void)state;
    struct topology topology;
    struct pool *pool;
    struct llcuda_error error;
    static struct tally tally;
    topology_read(&topology);
    memset(&tally, 0, sizeof tally);
    tally.threads = topology_thread_count(&topology) < 16 ? topology_thread_count(&topology) : 16;
    assert_ok(pool_create(tally.threads, topology.cpus, topology.cpu_count, &pool, &error), error);
    pool_run(pool, 500, count_item, &tally);
    pool_destroy(pool);
    assert_int_equal(atomic_load(&tally.counts[499]), 1);
    assert_int_equal(atomic_load(&tally.trouble), 0);
}

static void thread_counts_have_limits(void **state)
{
    (void)state;
    struct pool *pool;
    struct llcuda_error error;
    assert_int_equal(pool_create(0, NULL, 0, &pool, &error), LLCUDA_LIMIT);
    assert_int_equal(pool_create(LIMIT_THREADS + 1, NULL, 0, &pool, &error), LLCUDA_LIMIT);
    pool_destroy(NULL);
}

static void topology_makes_sense(void **state)
{
    (void)state;
    struct topology topology;
    topology_read(&topology);
    assert_in_range(topology.cpu_count, 1, LIMIT_THREADS);
    assert_in_range(topology.core_count, 1, topology.cpu_count);
    assert_in_range(topology_thread_count(&topology), 1, topology.core_count);
    for (uint32_t i = 0; i < topology.cpu_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(topology.cpus[i], topology.cpus[j]);
        }
    }
    assert_in_range(topology.fast_core_count, 1, topology.core_count);
    assert_in_range(topology.node_count, 1, topology.core_count);
    topology.core_count = topology.fast_core_count = 8;
    topology.quota = 3;
    assert_int_equal(topology_thread_count(&topology), 3);
    topology.quota = 0;
    assert_int_equal(topology_thread_count(&topology), 8);
}

/* Machines in hwloc's words: nodes of memory, cores, hyperthreads. */
static void nodes_and_cores_are_found(void **state)
{
    (void)state;
    struct topology_place places[LIMIT_THREADS];
    struct topology topology = {0};
    uint32_t count = topology_hwloc_read("NUMANode:2 Core:3 PU:2", places);
    if (count == 0) {
        skip(); /* this build has no hwloc */
    }
    assert_int_equal(count, 12);
    topology_order(&topology, places, count);
    assert_int_equal(topology.cpu_count, 12);
    assert_int_equal(topology.core_count, 6);
    assert_int_equal(topology.fast_core_count, 6);
    assert_int_equal(topology.node_count, 2);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(topology.cpus[i], 2 * i); /* first threads, the first node's before */
        assert_int_equal(topology.cpus[6 + i], 2 * i + 1);
    }
    assert_int_equal(topology_hwloc_read("no such words", places), 0);
    assert_true(topology_hwloc_read("NUMANode:4 Core:300 PU:2", places) <= LIMIT_THREADS);
}

/* Workers of a node have neighbouring shares: of a product's rows each node reads, and packs into
 * its own memory, one run, whatever the machine that hwloc describes. */
static void a_node_has_neighbouring_rows(void **state)
{
    (void)state;
    static const struct {
        const char *machine;
        uint32_t nodes, cores; /* cores: of a node */
    } machines[] = {{"NUMANode:2 Core:4 PU:2", 2, 4}, {"NUMANode:4 Core:2 PU:1", 4, 2}};
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
        struct topology_place places[LIMIT_THREADS];
        struct topology topology = {0};
        struct llcuda_error error;
        struct pool *pool;
        uint32_t count = topology_hwloc_read(machines[m].machine, places);
        if (count == 0) {
            skip(); /* this build has no hwloc */
        }
        topology_order(&topology, places, count);
        uint32_t threads = machines[m].nodes * machines[m].cores;
        assert_int_equal(topology_thread_count(&topology), threads);
        assert_ok(pool_create(threads, NULL, 0, &pool, &error), error);
        const uint64_t items = 64;
        for (uint32_t worker = 0; worker < threads; worker++) {
            uint32_t node = UINT32_MAX;
            for (uint32_t i = 0; i < count; i++) {
                node = places[i].cpu == topology.cpus[worker] ? places[i].node : node;
            }
            uint64_t first = pool_share_begin(pool, worker, items);
            assert_int_equal(first / (items / machines[m].nodes), node);
        }
        pool_destroy(pool);
    }
}

/* Two fast cores with two threads each are CPUs 2 to 5, four slow ones come before and after. */
static void fast_cores_come_first(void **state)
{
    (void)state;
    const struct topology_place places[] = {{0, 10, 0, 0}, {1, 11, 0, 0}, {2, 12, 0, 1},
                                            {3, 12, 0, 1}, {4, 13, 0, 1}, {5, 13, 0, 1},
                                            {6, 14, 0, 0}, {7, 15, 0, 0}};
    static const uint32_t expected[] = {2, 4, 0, 1, 6, 7, 3, 5};
    struct topology topology = {0};
    topology_order(&topology, places, 8);
    assert_int_equal(topology.core_count, 6);
    assert_int_equal(topology.fast_core_count, 2);
    assert_int_equal(topology.node_count, 1);
    assert_int_equal(topology_thread_count(&topology), 2);
    assert_memory_equal(topology.cpus, expected, sizeof expected);
}

static void quotas_are_read(void **state)
{
    (void)state;
    assert_int_equal(topology_quota_parse("200000 100000\n"), 2);
    assert_int_equal(topology_quota_parse("250000 100000\n"), 3);
    assert_int_equal(topology_quota_parse("50000 100000"), 1);
    assert_int_equal(topology_quota_parse("max 100000\n"), 0);
    assert_int_equal(topology_quota_parse(""), 0);
    assert_int_equal(topology_quota_parse("100000 0"), 0);
    assert_int_equal(topology_quota_parse("99999999999999 1"), LIMIT_THREADS);
}

static void masks_lower_the_level(void **state)
{
    (void)state;
    const struct cpu_features all = {.avx2_fma_f16c = true,
                                     .avx512 = true,
                                     .avx512_vnni = true,
                                     .avx_vnni = true,
                                     .avx512_bf16 = true,
                                     .amx_int8 = true,
                                     .amx_bf16 = true};
    struct cpu_features masked = all;
    cpu_features_mask(&masked, CPU_LEVEL_COUNT, false);
    assert_true(masked.avx512 && masked.avx512_vnni && masked.avx_vnni);
    /* Of what is beside AVX-512 only what is faster comes unasked. */
    assert_false(masked.avx512_bf16 || masked.amx_int8);
    assert_int_equal(masked.amx_bf16, cpu_features_request_amx());
    masked = all;
    cpu_features_mask(&masked, CPU_AVX512_BF16, false);
    assert_true(masked.avx512_vnni && masked.avx512_bf16 && !masked.amx_int8);
    masked = all;
    cpu_features_mask(&masked, CPU_AMX, false);
    assert_true(masked.avx512_vnni && !masked.avx512_bf16);
    assert_int_equal(masked.amx_int8, cpu_features_request_amx());
    assert_int_equal(masked.amx_bf16, cpu_features_request_amx());
    masked = all;
    cpu_features_mask(&masked, CPU_AVX512, false);
    assert_false(masked.amx_int8 || masked.amx_bf16);
    /* NEON has to be asked for. */
    const struct cpu_features arm = {.neon = true, .dotprod = true, .i8mm = true};
    masked = arm;
    cpu_features_mask(&masked, CPU_LEVEL_COUNT, false);
    assert_int_equal(cpu_features_level(&masked), CPU_SCALAR);
    assert_false(masked.dotprod || masked.i8mm);
    masked = arm;
    cpu_features_mask(&masked, CPU_NEON, false);
    assert_memory_equal(&masked, &arm, sizeof arm);
    cpu_features_mask(&masked, CPU_NEON, true);
    assert_true(masked.neon && !masked.dotprod && !masked.i8mm);
    masked = all;
    cpu_features_mask(&masked, CPU_AVX512, true);
    assert_int_equal(cpu_features_level(&masked), CPU_AVX512);
    assert_false(masked.avx512_vnni || masked.avx_vnni || masked.avx512_bf16 || masked.amx_bf16);
    masked = all;
    cpu_features_mask(&masked, CPU_AVX2, false);
    assert_int_equal(cpu_features_level(&masked), CPU_AVX2);
    assert_true(masked.avx_vnni);
    assert_false(masked.avx512_vnni || masked.amx_bf16);
    cpu_features_mask(&masked, CPU_SCALAR, false);
    assert_int_equal(cpu_features_level(&masked), CPU_SCALAR);
    assert_false(masked.avx_vnni);
    assert_string_equal(cpu_level_name(CPU_AVX512), "avx512");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_item_runs_once),
    cmocka_unit_test(ranges_become_short),
    cmocka_unit_test(shares_begin_where_promised),
    cmocka_unit_test(a_node_has_neighbouring_rows),
    cmocka_unit_test(idle_threads_use_no_time),
    cmocka_unit_test(pinned_threads_work),
    cmocka_unit_test(thread_counts_have_limits),
    cmocka_unit_test(topology_makes_sense),
    cmocka_unit_test(quotas_are_read),
    cmocka_unit_test(masks_lower_the_level),
    cmocka_unit_test(nodes_and_cores_are_found),
    cmocka_unit_test(fast_cores_come_first),
};

TEST_MAIN(tests)
