/* Arenas, buffers, checked arithmetic, files and maps, counter-based random numbers. */
#include "support/test_support.h"

#include <signal.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/random.h"

static void arena_is_aligned_zeroed_and_bounded(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        size_t size = (size_t)test_random_below(500);
        unsigned char *data = arena_alloc(&arena, size, 1);
        assert_non_null(data);
        assert_int_equal((uintptr_t)data % 16, 0);
        for (size_t k = 0; k < size; k++) {
            assert_int_equal(data[k], 0);
            data[k] = 0xAA;
        }
    }
    assert_true(arena.allocated_bytes <= 1 << 20);
    assert_null(arena_alloc(&arena, 1 << 21, 1));
    assert_null(arena_alloc(&arena, SIZE_MAX / 2, 3));
    arena_reset(&arena);
    assert_int_equal(((unsigned char *)arena_alloc(&arena, 64, 1))[0], 0);
    arena_deinit(&arena);
    assert_int_equal(arena.allocated_bytes, 0);
}

/* As one by one, at every length of a number. */
static void buffer_appends_lists(void **state)
{
    (void)state;
    static const uint32_t values[] = {0,      5,       10,       99,        100,        101,
                                      1000,   9999,    10000,    65536,     100000,     128256,
                                      999999, 1000000, 99999999, 100000000, 4294967295u};
    enum { COUNT = sizeof values / sizeof values[0] };
    struct buffer list = {0};
    struct buffer one_by_one = {0};
    assert_true(buffer_append_list(&list, values, 0));
    assert_int_equal(list.length, 0);
    assert_true(buffer_append_list(&list, values, COUNT));
    for (int i = 0; i < COUNT; i++) {
        assert_true(buffer_printf(&one_by_one, "%s%u", i ? "," : "", values[i]));
    }
    assert_string_equal(buffer_text(&list), buffer_text(&one_by_one));
    buffer_deinit(&list);
    buffer_deinit(&one_by_one);
    buffer_init(&list, 10);
    assert_false(buffer_append_list(&list, values, COUNT));
    assert_true(list.failed);
    buffer_deinit(&list);
}

static void buffer_remembers_failure(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 10);
    assert_true(buffer_append_text(&buffer, "12345"));
    assert_true(buffer_printf(&buffer, "%d", 67890));
    assert_false(buffer_append_byte(&buffer, '!'));
    assert_true(buffer.failed);
    assert_string_equal(buffer_text(&buffer), "1234567890");
    buffer_clear(&buffer);
    assert_false(buffer.failed);
    buffer_deinit(&buffer);
}

/* What fits is written at once, what does not after growing; what may not leaves no trace. */
static void buffer_prints_at_every_length(void **state)
{
    (void)state;
    static const char filler[] = "0123456789012345678901234567890123456789012345678901234567890123"
                                 "0123456789012345678901234567890123456789012345678901234567890123";
    for (int before = 0; before < 80; before++) {
        for (int length = 0; length < 120; length++) {
            struct buffer buffer;
            size_t limit = test_random_below(2) ? 100 : 0;
            bool fits = !limit || (size_t)(before + length) <= limit;
            buffer_init(&buffer, limit);
            assert_true(buffer_append(&buffer, filler, (size_t)before));
            assert_int_equal(buffer_printf(&buffer, "%.*s", length, filler), fits);
            assert_int_equal(buffer.failed, !fits);
            assert_int_equal(buffer.length, fits ? before + length : before);
            assert_int_equal(strlen(buffer_text(&buffer)), buffer.length);
            assert_memory_equal(buffer_text(&buffer) + before, filler, fits ? (size_t)length : 0);
            buffer_deinit(&buffer);
        }
    }
}

static void arithmetic_does_not_wrap(void **state)
{
    (void)state;
    uint64_t result = 7;
    assert_false(checked_add_u64(UINT64_MAX, 1, &result));
    assert_false(checked_mul_u64(1ull << 33, 1ull << 31, &result));
    assert_false(checked_align_up_u64(UINT64_MAX - 3, 32, &result));
    assert_false(checked_align_up_u64(5, 24, &result));
    assert_int_equal(result, 7);
    assert_true(checked_align_up_u64(33, 32, &result));
    assert_int_equal(result, 64);
}

static void files_report_where_they_end(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *path = test_file_write(folder, "ten", "0123456789", 10);
    struct llcuda_error error;
    struct file file;
    assert_ok(file_open(&file, path, &error), error);
    char bytes[8];
    assert_ok(file_read_at(&file, 2, bytes, 8, &error), error);
    assert_int_equal(file_read_at(&file, 5, bytes, 8, &error), LLCUDA_IO);
    assert_int_equal(error.offset, 10);
    file_close(&file);
    assert_int_equal(file_open(&file, folder, &error), LLCUDA_IO);
    assert_int_equal(file_open(&file, "/no/such/file", &error), LLCUDA_NOT_FOUND);
    assert_non_null(strstr(error.message, "/no/such/file"));
    assert_ok(file_write_atomic(path, "new", 3, &error), error);
    struct buffer contents = {0};
    assert_int_equal(file_read_all(path, 2, &contents, &error), LLCUDA_LIMIT);
    assert_ok(file_read_all(path, 3, &contents, &error), error);
    assert_string_equal(buffer_text(&contents), "new");
    buffer_deinit(&contents);
    free(path);
    test_folder_remove(folder);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!file_map_repair(info->si_addr)) {
        signal(number, SIG_DFL);
    }
}

static void a_shrunk_map_is_damaged_not_fatal(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    size_t bytes = 1 << 20;
    char *data = calloc(1, bytes);
    memset(data, 'x', bytes);
    char *path = test_file_write(folder, "big", data, bytes);
    free(data);
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    sigaction(SIGBUS, &action, &before);
    struct llcuda_error error;
    struct file file;
    struct file_map map;
    assert_ok(file_open(&file, path, &error), error);
    assert_ok(file_map_open(&map, &file, &error), error);
    file_close(&file);
    assert_int_equal(truncate(path, 8192), 0);
    volatile const uint8_t *bytes_read = map.data;
    assert_int_equal(bytes_read[100], 'x');
    assert_false(file_map_damaged(&map));
    assert_int_equal(bytes_read[500000], 0);
    assert_true(file_map_damaged(&map));
    assert_int_equal(bytes_read[900000], 0);
    file_map_close(&map);
    sigaction(SIGBUS, &before, NULL);
    free(path);
    test_folder_remove(folder);
}

/* The known answers of Random123's kat_vectors for philox4x32-10. */
static void philox_gives_the_published_vectors(void **state)
{
    (void)state;
    uint32_t out[4];
    random_philox(0, (const uint32_t[4]){0, 0, 0, 0}, out);
    assert_int_equal(out[0], 0x6627e8d5);
    assert_int_equal(out[1], 0xe169c58d);
    assert_int_equal(out[2], 0xbc57ac4c);
    assert_int_equal(out[3], 0x9b00dbd8);
    random_philox(0xffffffffffffffffull, (const uint32_t[4]){~0u, ~0u, ~0u, ~0u}, out);
    assert_int_equal(out[0], 0x408f276d);
    assert_int_equal(out[1], 0x41c83b0e);
    assert_int_equal(out[2], 0xa20bc7c6);
    assert_int_equal(out[3], 0x6d5451fd);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(arena_is_aligned_zeroed_and_bounded),
    cmocka_unit_test(buffer_appends_lists),
    cmocka_unit_test(buffer_remembers_failure),
    cmocka_unit_test(buffer_prints_at_every_length),
    cmocka_unit_test(arithmetic_does_not_wrap),
    cmocka_unit_test(files_report_where_they_end),
    cmocka_unit_test(a_shrunk_map_is_damaged_not_fatal),
    cmocka_unit_test(philox_gives_the_published_vectors),
};

TEST_MAIN(tests)
