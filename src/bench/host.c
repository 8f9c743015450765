/* Owns the record of the machine. What cannot be read is left out: an absent line is not a claim.
 */
#include "bench/host.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/monitor_gpu.h"
#include "build_config.h"

#define FOLDER_FILES_MAX 1024

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
    write_gpu(writer, config);
    write_environment(writer, environment);
}

#if LLCUDA_HAVE_EVENT

#include <openssl/evp.h>

static llcuda_status hash_file(EVP_MD_CTX *context, const char *path, struct llcuda_error *error)
{
    static unsigned char block[1 << 16];
    struct file file;
    llcuda_status status = file_open(&file, path, error);
    for (uint64_t offset = 0; !status && offset < file.size; offset += sizeof block) {
        uint64_t left = file.size - offset;
        size_t bytes = left < sizeof block ? (size_t)left : sizeof block;
        status = file_read_at(&file, offset, block, bytes, error);
        if (!status && !EVP_DigestUpdate(context, block, bytes)) {
            status = error_set(error, LLCUDA_INTERNAL, "OpenSSL cannot hash");
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

static llcuda_status hash_folder(EVP_MD_CTX *context, const char *path, struct llcuda_error *error)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, only_weights, alphasort);
    llcuda_status status = count > 0 && count <= FOLDER_FILES_MAX
                               ? LLCUDA_OK
                               : error_set(error, LLCUDA_NOT_FOUND, "'%s' has no weights", path);
    for (int i = 0; i < count; i++) {
        char *file = status ? NULL : file_path_join(path, entries[i]->d_name);
        if (file) {
            status = hash_file(context, file, error);
        }
        free(file);
        free(entries[i]);
    }
    free(entries);
    return status;
}

llcuda_status host_model_digest(const char *path, char out[65], struct llcuda_error *error)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int bytes = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    llcuda_status status = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL)
                               ? LLCUDA_OK
                               : error_no_memory(error, "a digest", sizeof digest);
    if (!status) {
        status = file_is_folder(path) ? hash_folder(context, path, error)
                                      : hash_file(context, path, error);
    }
    if (!status && EVP_DigestFinal_ex(context, digest, &bytes)) {
        for (unsigned int i = 0; i < bytes && i < 32; i++) {
            snprintf(out + 2 * i, 3, "%02x", digest[i]);
        }
    }
    EVP_MD_CTX_free(context);
    return status;
}

#else

llcuda_status host_model_digest(const char *path, char out[65], struct llcuda_error *error)
{
    (void)out;
    return error_set(error, LLCUDA_UNSUPPORTED, "'%s': this build has no OpenSSL", path);
}

#endif
