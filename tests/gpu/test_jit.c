/* From text to modules: joining, preludes, the cache on disk against damage, strangers and company,
 * packs, and many modules at once. */
#include "gpu_support.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "gpu/jit.h"
#include "gpu/kernel_pack.h"
#include "gpu/prelude.h"

/* out[0] = the prelude's FACTOR, out[1] = the bits of its SCALE. */
static const char kernel_text[] = "#include <stdint.h>\n"
                                  "struct jit_arguments { uint32_t *out; uint64_t unused; };\n"
                                  "extern \"C\" __global__ void constants(\n"
                                  "    const struct jit_arguments arguments)\n"
                                  "{\n"
                                  "    static_assert(__LINE__ == 6, \"lines are kept\");\n"
                                  "    arguments.out[0] = (uint32_t)FACTOR;\n"
                                  "    *(float *)&arguments.out[1] = SCALE;\n"
                                  "}\n";

struct jit_arguments {
    uint64_t out;
    uint64_t unused;
};

struct messages {
    uint32_t warnings;
    char last[512];
};

static void remember(void *user, enum log_level level, const char *message)
{
    struct messages *messages = user;
    if (level <= LOG_WARN) {
        messages->warnings++;
        snprintf(messages->last, sizeof messages->last, "%s", message);
    }
}

/* A driver and its JIT. */
struct shop {
    struct gpu_driver *driver;
    struct gpu_jit *jit;
    struct gpu_faults faults;
    struct messages messages;
    struct log_sink sink;
    struct llcuda_error error;
};

static void shop_open(struct shop *shop, const char *cache, const char *compiler, const char *pack,
                      uint64_t cache_bytes_max)
{
    *shop = (struct shop){0};
    shop->sink = (struct log_sink){remember, &shop->messages, LOG_WARN};
    const struct gpu_open_options open = {.compiler = compiler, .faults = &shop->faults};
    const struct gpu_jit_options options = {.cache = cache,
                                            .cache_bytes_max = cache_bytes_max,
                                            .packs = &pack,
                                            .pack_count = pack ? 1 : 0,
                                            .thread_count = 2,
                                            .log = &shop->sink};
    assert_ok(gpu_driver_open_emu(&open, &shop->driver, &shop->error), shop->error);
    assert_ok(gpu_jit_create(shop->driver, &options, &shop->jit, &shop->error), shop->error);
}

static void shop_close(struct shop *shop)
{
    gpu_jit_destroy(shop->jit);
    shop->driver->close(shop->driver);
    assert_int_equal(shop->faults.live_objects, 0);
    assert_int_equal(shop->faults.live_allocations, 0);
}

static struct gpu_jit_statistics counts(const struct shop *shop)
{
    struct gpu_jit_statistics statistics;
    gpu_jit_statistics(shop->jit, &statistics);
    return statistics;
}

static void make_prelude(struct buffer *prelude, int64_t factor, float scale)
{
    prelude_integer(prelude, "FACTOR", factor);
    prelude_float(prelude, "SCALE", scale);
}

static struct gpu_jit_module module_of(const struct buffer *prelude)
{
    return (struct gpu_jit_module){
        .name = "constants.cu", .prelude = buffer_view(prelude), .text = text_view_of(kernel_text)};
}

static void check_constants(struct shop *shop, struct gpu_module *module, int64_t factor,
                            float scale)
{
    struct gpu_driver *driver = shop->driver;
    struct gpu_function *function;
    struct gpu_stream *stream;
    struct jit_arguments arguments = {0};
    uint32_t out[2];
    const struct gpu_launch launch = {.grid = {1, 1, 1}, .block = {1, 1, 1}};
    assert_ok(driver->memory_alloc(driver, 8, &arguments.out, &shop->error), shop->error);
    assert_ok(driver->stream_create(driver, &stream, &shop->error), shop->error);
    assert_ok(driver->function_get(driver, module, "constants", &function, &shop->error),
              shop->error);
    assert_ok(driver->launch(driver, stream, function, &launch, &arguments, sizeof arguments,
                             &shop->error),
              shop->error);
    assert_ok(driver->copy_out(driver, stream, out, arguments.out, 8, &shop->error), shop->error);
    assert_int_equal(out[0], (uint32_t)factor);
    assert_memory_equal(&out[1], &scale, 4);
    driver->stream_destroy(driver, stream);
    driver->memory_free(driver, arguments.out);
}

/* Loads and runs the module of these constants. */
static llcuda_status use(struct shop *shop, int64_t factor, float scale)
{
    struct buffer prelude = {0};
    struct gpu_module *module = NULL;
    make_prelude(&prelude, factor, scale);
    const struct gpu_jit_module description = module_of(&prelude);
    llcuda_status status = gpu_jit_load(shop->jit, &description, &module, &shop->error);
    if (status == LLCUDA_OK) {
        check_constants(shop, module, factor, scale);
        shop->driver->module_unload(shop->driver, module);
    }
    buffer_deinit(&prelude);
    return status;
}

/* The one file of the cache whose name ends in `suffix` (caller frees), NULL for none; counts. */
static char *entry_of(const char *cache, const char *suffix, uint32_t *count)
{
    char *name = NULL;
    struct llcuda_error error;
    assert_ok(file_folder_find(cache, suffix, &name, count, &error), error);
    char *path = name ? file_path_join(cache, name) : NULL;
    free(name);
    return path;
}

static char *cache_in(const char *folder)
{
    return file_path_join(folder, "deep/kernels");
}

static void preludes_keep_their_values(void **state)
{
    (void)state;
    struct shop shop;
    static const float values[] = {0.0f, 1e-5f, 0.1f, -3.25f, 3.4028234e38f, 1.1754944e-38f};
    shop_open(&shop, NULL, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_ok(use(&shop, -(int64_t)i, values[i]), shop.error);
    }
    assert_int_equal(counts(&shop).compiled, 6);
    assert_false(counts(&shop).has_cache);
    const char *const files[] = {"no_such.cuh"};
    const struct gpu_jit_module unknown = {.name = "x", .files = files, .file_count = 1};
    struct buffer text = {0};
    assert_int_equal(gpu_jit_text(shop.jit, &unknown, &text, &shop.error), LLCUDA_NOT_FOUND);
    buffer_deinit(&text);
    shop_close(&shop);
}

static void second_start_needs_no_compiler(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *cache = cache_in(folder);
    struct shop shop;
    struct stat info;
    shop_open(&shop, cache, NULL, NULL, 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, 1);
    shop_close(&shop);
    assert_int_equal(stat(cache, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);

    shop_open(&shop, cache, NULL, NULL, 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, 0);
    assert_int_equal(counts(&shop).from_cache, 1);
    shop_close(&shop);

    shop_open(&shop, cache, "/nowhere/c++", NULL, 0);
    assert_false(counts(&shop).has_compiler);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).from_cache, 1);
    /* Other constants are another binary, which is not there. */
    assert_int_equal(use(&shop, 6, 0.5f), LLCUDA_UNSUPPORTED);
    shop_close(&shop);
    free(cache);
    test_folder_remove(folder);
}

static void damaged_entries_are_made_anew(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *cache = cache_in(folder);
    struct shop shop;
    uint32_t count;
    shop_open(&shop, cache, NULL, NULL, 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    for (uint32_t round = 0; round < 6; round++) {
        char *path = entry_of(cache, ".kernel", &count);
        assert_int_equal(count, 1);
        struct buffer bytes = {0};
        assert_ok(file_read_all(path, 1u << 28, &bytes, &shop.error), shop.error);
        const size_t at = round == 0   ? 0
                          : round == 1 ? 70
                                       : (size_t)test_random_below(bytes.length);
        if (round < 4) {
            bytes.data[at] = (char)(bytes.data[at] ^ (1 << test_random_below(8)));
        } else {
            bytes.length = round == 4 ? 0 : at;
        }
        FILE *file = fopen(path, "wb");
        assert_int_equal(fwrite(bytes.data, 1, bytes.length, file), bytes.length);
        fclose(file);
        assert_ok(use(&shop, 5, 0.5f), shop.error);
        const struct gpu_jit_statistics now = counts(&shop);
        assert_int_equal(now.damaged, round + 1);
        assert_int_equal(now.compiled, round + 2);
        assert_ok(use(&shop, 5, 0.5f), shop.error);
        assert_int_equal(counts(&shop).compiled, now.compiled);
        buffer_deinit(&bytes);
        free(path);
    }
    assert_int_equal(shop.messages.warnings, 6);
    shop_close(&shop);
    free(cache);
    test_folder_remove(folder);
}

/* The folder is not used, which the log says, and all goes on. */
static void expect_refused(const char *cache, const char *word)
{
    struct shop shop;
    shop_open(&shop, cache, NULL, NULL, 0);
    assert_false(counts(&shop).has_cache);
    assert_int_equal(shop.messages.warnings, 1);
    if (!strstr(shop.messages.last, word)) {
        fail_msg("no '%s' in: %s", word, shop.messages.last);
    }
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    shop_close(&shop);
}

static void strange_folders_are_refused(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *cache = file_path_join(folder, "kernels");
    char *link = file_path_join(folder, "link");
    char *plain = test_file_write(folder, "file", "x", 1);
    uint32_t count;
    assert_int_equal(mkdir(cache, 0700), 0);
    assert_int_equal(symlink(cache, link), 0);
    expect_refused(link, "is a link");
    expect_refused(plain, "is a link or no folder");
    assert_int_equal(chmod(cache, 0750), 0);
    expect_refused(cache, "can be entered by others");
    assert_int_equal(chmod(cache, 0700), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(cache, 1, 1), 0);
        expect_refused(cache, "belongs to another user");
        assert_int_equal(chown(cache, 0, 0), 0);
    }
    assert_null(entry_of(cache, ".kernel", &count));
    free(cache);
    free(link);
    free(plain);
    test_folder_remove(folder);
}

static void strange_entries_are_not_read(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *cache = cache_in(folder);
    char *elsewhere = file_path_join(folder, "elsewhere");
    struct shop shop;
    uint32_t count;
    shop_open(&shop, cache, NULL, NULL, 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    char *path = entry_of(cache, ".kernel", &count);

    /* Others can write to it. */
    assert_int_equal(chmod(path, 0620), 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, 2);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, 2);

    /* A link to a good entry, which must stay as it is. */
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, 3);
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISREG(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0600);

    if (geteuid() == 0) {
        assert_int_equal(chown(path, 1, 1), 0);
        assert_ok(use(&shop, 5, 0.5f), shop.error);
        assert_int_equal(counts(&shop).compiled, 4);
    }
    /* An entry of other text under this name. */
    char *first = entry_of(cache, ".kernel", &count);
    assert_ok(use(&shop, 77, 0.5f), shop.error);
    assert_int_equal(rename(elsewhere, first), 0);
    struct buffer good = {0};
    assert_ok(file_read_all(first, 1u << 28, &good, &shop.error), shop.error);
    good.data[64] = (char)(good.data[64] ^ 1); /* the key, and so the table's checksum */
    assert_ok(file_write_atomic(first, good.data, good.length, &shop.error), shop.error);
    assert_int_equal(chmod(first, 0600), 0);
    const uint64_t before = counts(&shop).compiled;
    assert_ok(use(&shop, 5, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, before + 1);
    buffer_deinit(&good);
    free(first);
    shop_close(&shop);
    free(path);
    free(elsewhere);
    free(cache);
    test_folder_remove(folder);
}

static void many_processes_at_once(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    const char *folder = test_folder_make();
    char *cache = cache_in(folder);
    pid_t children[PROCESSES];
    uint32_t count;
    for (uint32_t i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct shop shop;
            bool fine = true;
            for (int64_t round = 0; round < 2; round++) {
                shop_open(&shop, cache, NULL, NULL, 0);
                fine = fine && use(&shop, 40 + round, 0.25f) == LLCUDA_OK;
                shop_close(&shop);
            }
            _exit(fine ? 0 : 1);
        }
    }
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    char *path = entry_of(cache, ".kernel", &count);
    assert_int_equal(count, 2);
    free(path);
    /* Nothing else lies there. */
    DIR *stream = opendir(cache);
    uint32_t names = 0;
    while (readdir(stream)) {
        names++;
    }
    closedir(stream);
    assert_int_equal(names, 4);
    free(cache);
    test_folder_remove(folder);
}

static void the_folder_stays_small(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *cache = cache_in(folder);
    struct shop shop;
    uint32_t count;
    shop_open(&shop, cache, NULL, NULL, 0);
    assert_ok(use(&shop, 1, 0.5f), shop.error);
    char *path = entry_of(cache, ".kernel", &count);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    free(path);
    shop_close(&shop);

    /* Room for two and a half. */
    shop_open(&shop, cache, NULL, NULL, (uint64_t)info.st_size * 5 / 2);
    assert_ok(use(&shop, 2, 0.5f), shop.error);
    assert_ok(use(&shop, 1, 0.5f), shop.error); /* now 2 is the oldest */
    char *left = test_file_write(cache, "new-0123456789abcdef", "half", 4);
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, left, old, 0), 0);
    assert_ok(use(&shop, 3, 0.5f), shop.error);
    path = entry_of(cache, ".kernel", &count);
    free(path);
    assert_int_equal(count, 2);
    assert_false(file_exists(left));
    const uint64_t compiled = counts(&shop).compiled;
    assert_ok(use(&shop, 1, 0.5f), shop.error);
    assert_ok(use(&shop, 3, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, compiled);
    assert_ok(use(&shop, 2, 0.5f), shop.error);
    assert_int_equal(counts(&shop).compiled, compiled + 1);
    shop_close(&shop);
    free(left);
    free(cache);
    test_folder_remove(folder);
}

static void packs_replace_the_compiler(void **state)
{
    (void)state;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "kernels.pack");
    struct shop shop;
    struct buffer preludes[3] = {{0}};
    struct gpu_jit_module modules[3];
    for (uint32_t i = 0; i < 3; i++) {
        make_prelude(&preludes[i], i, 2.0f);
        modules[i] = module_of(&preludes[i]);
    }
    shop_open(&shop, NULL, NULL, NULL, 0);
    assert_ok(gpu_jit_pack(shop.jit, modules, 3, path, &shop.error), shop.error);
    shop_close(&shop);

    shop_open(&shop, NULL, "/nowhere/c++", path, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(use(&shop, i, 2.0f), shop.error);
    }
    assert_int_equal(counts(&shop).from_pack, 3);
    assert_int_equal(use(&shop, 3, 2.0f), LLCUDA_UNSUPPORTED);
    shop_close(&shop);

    /* Damage in the last binary: the others serve. */
    struct buffer bytes = {0};
    assert_ok(file_read_all(path, 1u << 28, &bytes, &shop.error), shop.error);
    bytes.data[bytes.length - 5] = (char)(bytes.data[bytes.length - 5] ^ 4);
    assert_ok(file_write_atomic(path, bytes.data, bytes.length, &shop.error), shop.error);
    shop_open(&shop, NULL, "/nowhere/c++", path, 0);
    assert_ok(use(&shop, 0, 2.0f), shop.error);
    assert_int_equal(use(&shop, 2, 2.0f), LLCUDA_UNSUPPORTED);
    assert_non_null(strstr(shop.messages.last, "damaged"));
    shop_close(&shop);

    /* Damage in the table: the pack is not used. */
    bytes.data[100] = (char)(bytes.data[100] ^ 4);
    assert_ok(file_write_atomic(path, bytes.data, bytes.length, &shop.error), shop.error);
    shop_open(&shop, NULL, "/nowhere/c++", path, 0);
    assert_non_null(strstr(shop.messages.last, "not used"));
    assert_int_equal(use(&shop, 0, 2.0f), LLCUDA_UNSUPPORTED);
    shop_close(&shop);
    for (uint32_t i = 0; i < 3; i++) {
        buffer_deinit(&preludes[i]);
    }
    buffer_deinit(&bytes);
    free(path);
    test_folder_remove(folder);
}

/* The fuzzer's seeds were written from the table of bytes in the documentation. */
static void packs_are_laid_out_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        llcuda_status status;
        uint32_t count;
    } seeds[] = {
        {"two_items", LLCUDA_OK, 2},         {"no_items", LLCUDA_OK, 0},
        {"damaged_data", LLCUDA_OK, 2},      {"empty", LLCUDA_BAD_FORMAT, 0},
        {"cut_table", LLCUDA_BAD_FORMAT, 0}, {"cut_data", LLCUDA_BAD_FORMAT, 0},
        {"too_long", LLCUDA_BAD_FORMAT, 0},  {"magic", LLCUDA_BAD_FORMAT, 0},
        {"version", LLCUDA_BAD_FORMAT, 0},   {"outside", LLCUDA_BAD_FORMAT, 0},
        {"wraps", LLCUDA_BAD_FORMAT, 0},     {"into_table", LLCUDA_BAD_FORMAT, 0},
        {"long_name", LLCUDA_BAD_FORMAT, 0}, {"damaged_table", LLCUDA_BAD_FORMAT, 0},
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        struct buffer bytes = {0};
        struct kernel_pack pack;
        struct kernel_pack_item item;
        struct llcuda_error error;
        char name[64];
        snprintf(name, sizeof name, "fuzz/corpus/kernel_pack/%s", seeds[i].name);
        char *path = test_source_path(name);
        assert_ok(file_read_all(path, 1u << 20, &bytes, &error), error);
        assert_int_equal(kernel_pack_open(&pack, bytes.data, bytes.length, &error),
                         seeds[i].status);
        assert_int_equal(pack.count, seeds[i].count);
        if (seeds[i].count == 2) {
            kernel_pack_item(&pack, 0, &item);
            assert_string_equal(item.name, "one.cu");
            assert_int_equal(item.compiler_version, 120200);
            assert_int_equal(item.bytes, strlen("first binary"));
            assert_int_equal(kernel_pack_find(&pack, item.key, &item, &error),
                             i == 2 ? LLCUDA_BAD_FORMAT : LLCUDA_OK);
        }
        buffer_deinit(&bytes);
        free(path);
    }
}

static void many_modules_at_once(void **state)
{
    (void)state;
    enum { MODULES = 5 };
    struct shop shop;
    struct buffer preludes[MODULES] = {{0}};
    struct gpu_jit_module modules[MODULES];
    struct gpu_module *loaded[MODULES];
    struct gpu_jit_batch *batch;
    for (uint32_t i = 0; i < MODULES; i++) {
        make_prelude(&preludes[i], 100 + i, 1.5f);
        modules[i] = module_of(&preludes[i]);
    }
    shop_open(&shop, NULL, NULL, NULL, 0);
    assert_ok(gpu_jit_start(shop.jit, modules, MODULES, &batch, &shop.error), shop.error);
    assert_ok(gpu_jit_finish(batch, loaded, &shop.error), shop.error);
    for (uint32_t i = 0; i < MODULES; i++) {
        check_constants(&shop, loaded[i], 100 + i, 1.5f);
        shop.driver->module_unload(shop.driver, loaded[i]);
    }
    assert_int_equal(counts(&shop).compiled, MODULES);

    /* One that cannot be compiled: its error, and nothing stays. */
    modules[3].text = text_view_of("int broken = ;\n");
    modules[3].name = "broken.cu";
    assert_ok(gpu_jit_start(shop.jit, modules, MODULES, &batch, &shop.error), shop.error);
    assert_int_equal(gpu_jit_finish(batch, loaded, &shop.error), LLCUDA_BAD_FORMAT);
    assert_non_null(strstr(shop.error.message, "broken.cu"));
    assert_non_null(strstr(shop.error.message, "error"));
    assert_int_equal(shop.faults.live_objects, 0);

    /* A batch that is given up. */
    assert_ok(gpu_jit_start(shop.jit, modules, MODULES, &batch, &shop.error), shop.error);
    gpu_jit_cancel(batch);
    gpu_jit_cancel(NULL);
    for (uint32_t i = 0; i < MODULES; i++) {
        buffer_deinit(&preludes[i]);
    }
    shop_close(&shop);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(preludes_keep_their_values),
    cmocka_unit_test(second_start_needs_no_compiler),
    cmocka_unit_test(damaged_entries_are_made_anew),
    cmocka_unit_test(strange_folders_are_refused),
    cmocka_unit_test(strange_entries_are_not_read),
    cmocka_unit_test(many_processes_at_once),
    cmocka_unit_test(the_folder_stays_small),
    cmocka_unit_test(packs_replace_the_compiler),
    cmocka_unit_test(packs_are_laid_out_as_documented),
    cmocka_unit_test(many_modules_at_once),
};

TEST_MAIN(tests)
