/* Replays a corpus through a fuzz target without libFuzzer: every file of the folders or files that
 * are named. Prints the count; fails when there was nothing to replay, so that a lost corpus is
 * noticed. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "fuzz.h"

static bool replay_file(const char *path)
{
    struct buffer contents = {0};
    struct llcuda_error error;
    if (file_read_all(path, 1u << 26, &contents, &error)) {
        fprintf(stderr, "%s\n", error.message);
        buffer_deinit(&contents);
        return false;
    }
    /* An allocation of the exact size, so that a read past the end is caught. */
    uint8_t *exact = malloc(contents.length ? contents.length : 1);
    if (exact && contents.length) {
        memcpy(exact, contents.data, contents.length);
    }
    LLVMFuzzerTestOneInput(exact, contents.length);
    free(exact);
    buffer_deinit(&contents);
    return true;
}

static int replay_folder(const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    int replayed = 0;
    for (int i = 0; i < count; i++) {
        char *path = file_path_join(folder, entries[i]->d_name);
        if (path && !file_is_folder(path)) {
            replayed += replay_file(path);
        }
        free(path);
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
    return replayed;
}

int main(int argument_count, char **arguments)
{
    int replayed = 0;
    for (int i = 1; i < argument_count; i++) {
        replayed +=
            file_is_folder(arguments[i]) ? replay_folder(arguments[i]) : replay_file(arguments[i]);
    }
    printf("%d inputs replayed\n", replayed);
    return replayed ? 0 : 1;
}
