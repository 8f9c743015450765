/* The seeds of the fuzz corpora are what their names say: good ones open, bad ones are refused. */
#include "format/model_files.h"

#include <dirent.h>

#include "base/file.h"
#include "format/safetensors.h"

static llcuda_status open_gguf(const struct buffer *bytes, struct llcuda_error *error)
{
    struct gguf *gguf;
    llcuda_status status = gguf_open_memory(bytes->data, bytes->length, &gguf, error);
    gguf_close(gguf);
    return status;
}

static llcuda_status open_safetensors(const struct buffer *bytes, struct llcuda_error *error)
{
    struct safetensors *file;
    llcuda_status status = safetensors_open_memory(bytes->data, bytes->length, &file, error);
    safetensors_close(file);
    return status;
}

static void check_folder(const char *name,
                         llcuda_status (*open)(const struct buffer *, struct llcuda_error *))
{
    char *folder = test_source_path(name);
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    int good = 0;
    int bad = 0;
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        struct buffer bytes = {0};
        struct llcuda_error error = {0};
        if (strncmp(entry->d_name, "good-", 5) != 0 && strncmp(entry->d_name, "bad-", 4) != 0) {
            continue;
        }
        char *path = file_path_join(folder, entry->d_name);
        assert_ok(file_read_all(path, 1 << 20, &bytes, &error), error);
        llcuda_status status = open(&bytes, &error);
        if ((status == LLCUDA_OK) != (entry->d_name[0] == 'g')) {
            fail_msg("%s: %s %s", entry->d_name, llcuda_status_name(status), error.message);
        }
        good += entry->d_name[0] == 'g';
        bad += entry->d_name[0] == 'b';
        free(path);
        buffer_deinit(&bytes);
    }
    closedir(stream);
    free(folder);
    assert_true(good >= 5 && bad >= 15);
}

static void gguf_seeds(void **state)
{
    (void)state;
    check_folder("fuzz/corpus/gguf", open_gguf);
}

static void safetensors_seeds(void **state)
{
    (void)state;
    check_folder("fuzz/corpus/safetensors", open_safetensors);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(gguf_seeds),
    cmocka_unit_test(safetensors_seeds),
};

TEST_MAIN(tests)
