/* Files that appear whole or not at all, and looking into folders. */
#include "support/test_support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static void appears_only_when_committed(void **state)
{
    (void)state;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "out");
    struct file_output output;
    assert_ok(file_output_open(&output, path, &error), error);
    assert_ok(file_output_write(&output, "abc", 3, &error), error);
    assert_ok(file_output_write(&output, "def", 3, &error), error);
    assert_int_equal(output.written, 6);
    assert_false(file_exists(path));
    assert_ok(file_output_commit(&output, &error), error);
    file_output_abort(&output);
    struct buffer contents = {0};
    assert_ok(file_read_all(path, 100, &contents, &error), error);
    assert_string_equal(buffer_text(&contents), "abcdef");
    buffer_deinit(&contents);

    assert_ok(file_output_open(&output, path, &error), error);
    assert_ok(file_output_write(&output, "x", 1, &error), error);
    file_output_abort(&output);
    char *name;
    uint32_t count;
    assert_ok(file_folder_find(folder, "", &name, &count, &error), error);
    assert_int_equal(count, 3); /* ".", ".." and the file: no temporary file is left */
    free(name);
    free(path);
    path = file_path_join(folder, "absent/out");
    assert_int_equal(file_output_open(&output, path, &error), LLCUDA_NOT_FOUND);
    file_output_abort(&output);
    free(path);
    test_folder_remove(folder);
}

/* Renaming a file over a device or a pipe would take it away from everybody. */
static void special_files_are_written_into(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct stat found;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "pipe");
    char bytes[8] = "";
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_ok(file_write_atomic(path, "abc", 3, &error), error);
    assert_int_equal(read(reader, bytes, sizeof bytes), 3);
    assert_string_equal(bytes, "abc");
    struct file_output output;
    assert_ok(file_output_open(&output, path, &error), error);
    file_output_abort(&output);
    assert_int_equal(stat(path, &found), 0);
    assert_true(S_ISFIFO(found.st_mode));
    close(reader);
    free(path);

    assert_int_equal(file_output_open(&output, folder, &error), LLCUDA_IO);
    assert_non_null(strstr(error.message, "is a folder"));
    file_output_abort(&output);
    path = file_path_join(folder, "absent/");
    const char *const nameless[] = {"", path};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(file_output_open(&output, nameless[i], &error), LLCUDA_IO);
        assert_non_null(strstr(error.message, "is no name of a file"));
        file_output_abort(&output);
    }
    free(path);
    test_folder_remove(folder);
}

static void links_stay_and_the_umask_holds(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct stat found;
    const char *folder = test_folder_make();
    char *path = file_path_join(folder, "file");
    char *other = file_path_join(folder, "link");
    assert_int_equal(symlink("file", other), 0);
    mode_t before = umask(077);
    assert_ok(file_write_atomic(path, "abc", 3, &error), error);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    umask(before);
    assert_ok(file_write_atomic(other, "defg", 4, &error), error);
    assert_int_equal(lstat(other, &found), 0);
    assert_true(S_ISLNK(found.st_mode));
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_size, 4);
    free(other);
    free(path);
    test_folder_remove(folder);
}

static void finds_entries_by_suffix(void **state)
{
    (void)state;
    struct llcuda_error error;
    const char *folder = test_folder_make();
    static const char *const names[] = {"b.gguf", "a.gguf", "c.ggu", ".gguf", "gguf"};
    for (size_t i = 0; i < 5; i++) {
        free(test_file_write(folder, names[i], "", 0));
    }
    char *name;
    uint32_t count;
    assert_ok(file_folder_find(folder, ".gguf", &name, &count, &error), error);
    assert_int_equal(count, 2);
    assert_string_equal(name, "a.gguf");
    free(name);
    assert_ok(file_folder_find(folder, ".none", &name, &count, &error), error);
    assert_int_equal(count, 0);
    assert_null(name);
    test_folder_remove(folder);
    assert_int_equal(file_folder_find(folder, "", &name, &count, &error), LLCUDA_NOT_FOUND);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(appears_only_when_committed),
    cmocka_unit_test(special_files_are_written_into),
    cmocka_unit_test(links_stay_and_the_umask_holds),
    cmocka_unit_test(finds_entries_by_suffix),
};

TEST_MAIN(tests)
