/* Owns the seed of a test process and its temporary files. One thread. */
#include "support/test_support.h"

#include <ftw.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"

static uint64_t state;

void test_seed_print(void)
{
    const char *given = getenv("LLCUDA_TEST_SEED");
    state = given ? strtoull(given, NULL, 10) : random_seed() >> 20;
    printf("seed %llu (repeat with LLCUDA_TEST_SEED=%llu)\n", (unsigned long long)state,
           (unsigned long long)state);
    fflush(stdout);
}

uint64_t test_random(void)
{
    state += 0x9E3779B97F4A7C15ull;
    return random_mix(state);
}

uint64_t test_random_below(uint64_t bound)
{
    return bound ? test_random() % bound : 0;
}

float test_random_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += (float)(test_random() >> 40) * 0x1p-24f;
    }
    return sum - 6.0f;
}

const char *test_folder_make(void)
{
    static char folder[256];
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/llcuda-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder)) {
        fail_msg("cannot make a folder in %s", folder);
    }
    return folder;
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *walk)
{
    (void)status;
    (void)flag;
    (void)walk;
    return remove(path);
}

void test_folder_remove(const char *folder)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

char *test_file_write(const char *folder, const char *name, const void *data, size_t bytes)
{
    char *path = file_path_join(folder, name);
    FILE *stream = path ? fopen(path, "wb") : NULL;
    if (!stream || fwrite(data, 1, bytes, stream) != bytes || fclose(stream) != 0) {
        fail_msg("cannot write %s", name);
    }
    return path;
}

char *test_oracle_path(const char *name)
{
    const char *folder = getenv("LLCUDA_ORACLE");
    char *path = file_path_join(folder ? folder : LLCUDA_TEST_SOURCE "/../shared/oracle", name);
    if (path && !file_exists(path)) {
        free(path);
        return NULL;
    }
    return path;
}

char *test_source_path(const char *name)
{
    return file_path_join(LLCUDA_TEST_SOURCE, name);
}
