/* Owns the record of the machine. What cannot be read is left out: an absent line is not a claim.
 */
#include "bench/host.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "bench/monitor_gpu.h"
#include "bench/promptness.h"
#include "build_config.h"

#define FOLDER_FILES_MAX 1024
#define PROGRESS_BYTES   (64ull << 20)

static void write_text(struct json_writer *writer, const char *key, const char *value)
{
    if (value[0]) {
        json_key(writer, key);
        json_write_string(writer, value);
    }
}

/* The first line of a small file of the system, or of its line that begins with `prefix` what
 * follows the colon. "" when there is none. */
static void read_line(const char *path, const char *prefix, char *out, size_t bytes)
{
    char line[512];
    FILE *file = fopen(path, "re");
    out[0] = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (prefix && strncmp(line, prefix, strlen(prefix)) != 0) {
            continue;
        }
        const char *value = prefix ? strchr(line, ':') : NULL;
        value = value ? value + 1 : line;
        while (*value == ' ' || *value == '\t') {
            value++;
        }
        snprintf(out, bytes, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (file) {
        fclose(file);
    }
}

/* Variables that change what engines do; their values say how. No secrets are among them. */
static void write_environment(struct json_writer *writer, char *const *environment)
{
    static const char *const names[] = {"OMP_",           "MKL_",       "OPENBLAS_", "CUDA_",
                                        "NVIDIA_VISIBLE", "RAYON_",     "KMP_",      "GOMP_",
                                        "MALLOC_",        "LD_PRELOAD", "TORCH_",    "PYTORCH_"};
    json_key(writer, "environment");
    json_begin_object(writer);
    for (size_t i = 0; environment && environment[i]; i++) {
        for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
            const char *equals = strchr(environment[i], '=');
            if (equals && strncmp(environment[i], names[n], strlen(names[n])) == 0) {
                json_key_view(writer,
                              text_view_make(environment[i], (size_t)(equals - environment[i])));
                json_write_string(writer, equals + 1);
                break;
            }
        }
    }
    json_end_object(writer);
}

static void write_gpu(struct json_writer *writer, const struct config *config)
{
    char text[300];
    int index = 0;
    if (config->system.gpu_device) {
        sscanf(config->system.gpu_device, "cuda:%d", &index);
    }
    struct monitor_gpu *gpu = monitor_gpu_open(index);
    if (gpu) {
        monitor_gpu_describe(gpu, text, sizeof text);
        write_text(writer, "gpu", text);
        monitor_gpu_close(gpu);
    }
}

void host_write(struct json_writer *writer, const struct config *config, char *const *environment)
{
    char text[300];
    char stamp[40];
    struct utsname system;
    time_t now = time(NULL);
    struct tm calendar;
    json_key(writer, "recorded");
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &calendar));
    json_write_string(writer, stamp);
    json_key(writer, "llcuda_version");
    json_write_string(writer, LLCUDA_VERSION);
    read_line("/proc/cpuinfo", "model name", text, sizeof text);
    write_text(writer, "cpu", text);
    json_key(writer, "processors");
    json_write_integer(writer, sysconf(_SC_NPROCESSORS_ONLN));
    json_key(writer, "memory_bytes");
    json_write_integer(writer, sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    if (uname(&system) == 0) {
        snprintf(text, sizeof text, "%s %s %s", system.sysname, system.release, system.machine);
        write_text(writer, "kernel", text);
    }
    read_line("/etc/os-release", "PRETTY_NAME", text, sizeof text);
    FILE *release = fopen("/etc/os-release", "re");
    while (release && fgets(text, sizeof text, release)) {
        if (strncmp(text, "PRETTY_NAME=\"", 13) == 0) {
            text[strcspn(text + 13, "\"") + 13] = 0;
            write_text(writer, "system", text + 13);
        }
    }
    if (release) {
        fclose(release);
    }
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", NULL, text, sizeof text);
    write_text(writer, "governor", text);
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", NULL, text, sizeof text);
    write_text(writer, "cpu_clock_max_khz", text);
    read_line("/proc/loadavg", NULL, text, sizeof text);
    write_text(writer, "load_at_begin", text);
    struct promptness before;
    promptness_begin(&before, true);
    promptness_end(&before);
    json_key(writer, "load_priority");
    json_write_string(writer, before.first ? "first" : "like others");
    write_gpu(writer, config);
    write_environment(writer, environment);
}

/* ---------------------------------------------------------------- digests of models */

#if LLCUDA_HAVE_EVENT

#include <openssl/evp.h>

/* OpenSSL uses what processors have for this. */
struct hash {
    EVP_MD_CTX *context;
    bool failed;
};

static void hash_begin(struct hash *hash)
{
    hash->context = EVP_MD_CTX_new();
    hash->failed = !hash->context || !EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL);
}

static void hash_add(struct hash *hash, const void *data, size_t bytes)
{
    hash->failed = hash->failed || !EVP_DigestUpdate(hash->context, data, bytes);
}

static bool hash_end(struct hash *hash, unsigned char digest[SHA256_BYTES])
{
    hash->failed = hash->failed || !EVP_DigestFinal_ex(hash->context, digest, NULL);
    EVP_MD_CTX_free(hash->context);
    return !hash->failed;
}

#else

struct hash {
    struct sha256 state;
};

static void hash_begin(struct hash *hash)
{
    sha256_init(&hash->state);
}

static void hash_add(struct hash *hash, const void *data, size_t bytes)
{
    sha256_update(&hash->state, data, bytes);
}

static bool hash_end(struct hash *hash, unsigned char digest[SHA256_BYTES])
{
    sha256_finish(&hash->state, digest);
    return true;
}

#endif

struct hashing {
    struct hash hash;
    uint64_t done, bytes;
    bool (*progress)(void *user, double share);
    void *user;
};

static llcuda_status hash_file(struct hashing *hashing, const char *path,
                               struct llcuda_error *error)
{
    static unsigned char block[1 << 16];
    struct file file;
    llcuda_status status = file_open(&file, path, error);
    for (uint64_t offset = 0; !status && offset < file.size; offset += sizeof block) {
        uint64_t left = file.size - offset;
        size_t bytes = left < sizeof block ? (size_t)left : sizeof block;
        status = file_read_at(&file, offset, block, bytes, error);
        if (!status) {
            hash_add(&hashing->hash, block, bytes);
            hashing->done += bytes;
            if (hashing->done % PROGRESS_BYTES < bytes &&
                !hashing->progress(hashing->user,
                                   fmin((double)hashing->done / (double)hashing->bytes, 1))) {
                status = error_set(error, LLCUDA_CANCELLED, "interrupted");
            }
        }
    }
    file_close(&file);
    return status;
}

static int only_weights(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return (length > 12 && strcmp(entry->d_name + length - 12, ".safetensors") == 0) ||
           (length > 5 && strcmp(entry->d_name + length - 5, ".gguf") == 0);
}

/* The paths of the files that make up the model, in order, to be freed with what they are in. */
static llcuda_status list_weights(const char *path, char ***out, int *out_count,
                                  struct llcuda_error *error)
{
    struct dirent **entries = NULL;
    const bool folder = file_is_folder(path);
    const int found = folder ? scandir(path, &entries, only_weights, alphasort) : 1;
    llcuda_status status = found > 0 && found <= FOLDER_FILES_MAX
                               ? LLCUDA_OK
                               : error_set(error, LLCUDA_NOT_FOUND, "'%s' has no weights", path);
    char **paths = status ? NULL : calloc((size_t)found, sizeof *paths);
    for (int i = 0; i < found; i++) {
        if (paths) {
            paths[i] = folder ? file_path_join(path, entries[i]->d_name) : strdup(path);
        }
        status = status || (paths && paths[i]) ? status : error_no_memory(error, "a path", 1);
        if (folder) {
            free(entries[i]);
        }
    }
    free(entries);
    *out = paths;
    *out_count = paths ? found : 0;
    return status;
}

llcuda_status host_model_digest(const char *path, bool (*progress)(void *user, double share),
                                void *user, char out[65], struct llcuda_error *error)
{
    struct hashing hashing = {.progress = progress, .user = user};
    unsigned char digest[SHA256_BYTES];
    char **paths = NULL;
    int count = 0;
    llcuda_status status = list_weights(path, &paths, &count, error);
    for (int i = 0; i < count; i++) {
        struct stat about;
        hashing.bytes += paths[i] && !stat(paths[i], &about) ? (uint64_t)about.st_size : 0;
    }
    hash_begin(&hashing.hash);
    for (int i = 0; !status && i < count; i++) {
        status = hash_file(&hashing, paths[i], error);
    }
    if (!hash_end(&hashing.hash, digest) && !status) {
        status = error_set(error, LLCUDA_INTERNAL, "OpenSSL cannot hash");
    }
    for (unsigned int i = 0; !status && i < SHA256_BYTES; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
    for (int i = 0; i < count; i++) {
        free(paths[i]);
    }
    free(paths);
    return status;
}
