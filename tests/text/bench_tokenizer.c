/* Measures a tokeniser: loading, encoding of English prose and of source code, decoding. The texts
 * are what the machine has: documentation under /usr/share/doc (compressed files through gzip) and
 * C headers under /usr/include. Runs on one thread.
 *
 *     bench_tokenizer [megabytes] tokenizer…     a .gguf, .json or .model file, or a folder
 *
 * Without a tokeniser it takes a vocabulary of the tests. Prints the best of three runs in
 * processor time, which other programs on the machine disturb less than the clock on the wall. */
#include <ftw.h>
#include <stdio.h>
#include <time.h>

#include "tokenizer_support.h"

#define RUNS 3

struct collection {
    struct buffer text;
    size_t limit_bytes;
    bool source;
    size_t files;
};

static struct collection *collecting; /* nftw has no argument for its caller */

static bool has_end(const char *name, const char *end)
{
    size_t length = strlen(name);
    return length >= strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

static bool is_prose(const char *name)
{
    static const char *const beginnings[] = {"README", "NEWS", "FAQ", "TODO", "HOWTO", "Tutorial"};
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0 && !has_end(name, ".html")) {
            return true;
        }
    }
    return has_end(name, ".txt") || has_end(name, ".txt.gz");
}

static void append_stream(FILE *stream)
{
    static char block[65536];
    size_t bytes;
    while ((bytes = fread(block, 1, sizeof block, stream)) > 0) {
        buffer_append(&collecting->text, block, bytes);
    }
}

static int collect_file(const char *path, const struct stat *status, int flag, struct FTW *walk)
{
    (void)status;
    const char *name = path + walk->base;
    bool wanted = flag == FTW_F && (collecting->source ? has_end(name, ".h") : is_prose(name));
    if (!wanted || strchr(path, '\'')) {
        return 0;
    }
    char command[4200];
    snprintf(command, sizeof command, "gzip -dcf '%s'", path);
    FILE *stream = has_end(name, ".gz") ? popen(command, "r") : fopen(path, "rb");
    if (stream) {
        append_stream(stream);
        collecting->files++;
        if (has_end(name, ".gz")) {
            pclose(stream);
        } else {
            fclose(stream);
        }
    }
    return collecting->text.length >= collecting->limit_bytes;
}

static struct collection collect(const char *folder, bool source, size_t bytes)
{
    struct collection collection = {.limit_bytes = bytes, .source = source};
    collecting = &collection;
    nftw(folder, collect_file, 32, FTW_PHYS);
    size_t found = collection.text.length;
    while (found > 0 && collection.text.length < bytes) { /* too little: once more */
        if (!buffer_reserve(&collection.text, found)) {
            break;
        }
        buffer_append(&collection.text, collection.text.data, found);
    }
    if (collection.text.length > bytes) {
        collection.text.length = bytes;
    }
    printf("%s: %.1f MB from %zu files of %s%s\n", source ? "source code" : "prose",
           (double)collection.text.length / 1e6, collection.files, folder,
           found < bytes ? ", repeated" : "");
    return collection;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static double seconds_since(uint64_t start)
{
    return (double)(now_ns() - start) / 1e9;
}

static void bench_text(const struct tokenizer *tokenizer, const char *name,
                       const struct collection *collection)
{
    struct llcuda_error error;
    struct token_ids ids = {0};
    struct tokenizer_scratch *scratch;
    double best = 1e9;
    if (tokenizer_scratch_create(tokenizer, &scratch, &error)) {
        printf("  %s\n", error.message);
        return;
    }
    for (int run = 0; run < RUNS; run++) {
        ids.count = 0;
        uint64_t start = now_ns();
        if (tokenizer_encode(tokenizer, buffer_view(&collection->text), NULL, scratch, &ids,
                             &error)) {
            printf("  %s: %s\n", name, error.message);
            break;
        }
        double seconds = seconds_since(start);
        best = seconds < best ? seconds : best;
    }
    double megabytes = (double)collection->text.length / 1e6;
    struct buffer decoded = {0};
    uint64_t start = now_ns();
    tokenizer_decode(tokenizer, ids.data, ids.count, true, &decoded, &error);
    double decode_seconds = seconds_since(start);
    printf("  %-12s encode %7.1f MB/s, %8zu ids, %.2f bytes an id; decode %6.1f MB/s\n", name,
           megabytes / best, ids.count, (double)collection->text.length / (double)ids.count,
           megabytes / decode_seconds);
    buffer_deinit(&decoded);
    token_ids_deinit(&ids);
    tokenizer_scratch_destroy(scratch);
}

static void bench_tokenizer(const char *path, const struct collection *prose,
                            const struct collection *source)
{
    struct llcuda_error error;
    struct tokenizer *tokenizer = NULL;
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        tokenizer_destroy(tokenizer);
        uint64_t start = now_ns();
        if (try_tokenizer(path, &tokenizer, &error)) {
            printf("%s: %s\n", path, error.message);
            return;
        }
        double seconds = seconds_since(start);
        best = seconds < best ? seconds : best;
    }
    printf("%s\n  %u tokens, loaded in %.1f ms\n", path, tokenizer_token_count(tokenizer),
           best * 1e3);
    bench_text(tokenizer, "prose", prose);
    bench_text(tokenizer, "source code", source);
    tokenizer_destroy(tokenizer);
}

int main(int argument_count, char **arguments)
{
    int next = 1;
    double megabytes = 20;
    if (argument_count > 1 && arguments[1][0] >= '0' && arguments[1][0] <= '9') {
        megabytes = strtod(arguments[next++], NULL);
    }
    size_t bytes = (size_t)(megabytes * 1e6);
    struct collection prose = collect("/usr/share/doc", false, bytes);
    struct collection source = collect("/usr/include", true, bytes);
    for (; next < argument_count; next++) {
        bench_tokenizer(arguments[next], &prose, &source);
    }
    if (argument_count <= 2) {
        char *path = test_source_path("tests/text/data/bpe_llama3.json");
        bench_tokenizer(path, &prose, &source);
        free(path);
    }
    buffer_deinit(&prose.text);
    buffer_deinit(&source.text);
    return 0;
}
