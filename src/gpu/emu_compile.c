/* Owns the way from kernel text to a shared object: preprocess, find the kernels, append their
 * table, compile. Everything lies in a fresh private folder that is removed at the end. No shell,
 * a time limit, nothing of the environment. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "gpu/child.h"
#include "gpu/emu_compile.h"
#include "gpu/emu_scan.h"

#define COMPILE_TIMEOUT_MS 300000u
#define VERSION_TIMEOUT_MS 60000u
#define TEXT_BYTES_MAX     (64ull << 20)
#define BINARY_BYTES_MAX   (256ull << 20)
#define ARGUMENTS_MAX      64u

/* A module is compiled as the program that loads it; the arch says so, since such binaries do not
 * go together with others. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZE    "-fsanitize=address,undefined"
#define ARCH_SUFFIX "+a"
#elif defined(__SANITIZE_THREAD__)
#define SANITIZE    "-fsanitize=thread"
#define ARCH_SUFFIX "+t"
#else
#define ARCH_SUFFIX ""
#endif
#define ARCH_V3 "emu-x86-64-v3"

/* The temporary files of one compilation. */
struct workshop {
    char folder[280];
    char source[300];
    char preprocessed[300];
    char binary[300];
    char output[300];
};

const char *emu_arch(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")) {
        return ARCH_V3 ARCH_SUFFIX;
    }
    return "emu-x86-64" ARCH_SUFFIX;
#else
    return "emu-aarch64" ARCH_SUFFIX;
#endif
}

static bool workshop_open(struct workshop *shop, const char *parent)
{
    snprintf(shop->folder, sizeof shop->folder, "%s/llcuda-kernel-XXXXXX", parent);
    if (!mkdtemp(shop->folder)) {
        return false;
    }
    snprintf(shop->source, sizeof shop->source, "%s/kernel.cpp", shop->folder);
    snprintf(shop->preprocessed, sizeof shop->preprocessed, "%s/kernel.ii", shop->folder);
    snprintf(shop->binary, sizeof shop->binary, "%s/kernel.so", shop->folder);
    snprintf(shop->output, sizeof shop->output, "%s/output", shop->folder);
    return true;
}

static void workshop_close(struct workshop *shop)
{
    unlink(shop->source);
    unlink(shop->preprocessed);
    unlink(shop->binary);
    unlink(shop->output);
    rmdir(shop->folder);
}

/* A temporary file: no need to flush it to the disk. */
static llcuda_status write_text(const char *path, const struct buffer *text,
                                struct llcuda_error *error)
{
    if (text->failed) {
        return error_no_memory(error, "the text of a kernel", text->length);
    }
    FILE *file = fopen(path, "wbe");
    if (!file) {
        return error_from_errno(error, errno, "create", path);
    }
    const bool written = fwrite(buffer_text(text), 1, text->length, file) == text->length;
    if (fclose(file) != 0 || !written) {
        return error_from_errno(error, errno, "write", path);
    }
    return LLCUDA_OK;
}

static uint32_t version_of(const char *text)
{
    /* "g++ (Debian 12.2.0-14) 12.2.0": the first number with a dot in it. */
    uint32_t parts[3];
    for (const char *at = text; *at; at++) {
        const bool starts =
            isdigit((unsigned char)*at) && (at == text || !isalnum((unsigned char)at[-1]));
        parts[1] = parts[2] = 0;
        if (starts && sscanf(at, "%3u.%2u.%2u", &parts[0], &parts[1], &parts[2]) >= 2) {
            return parts[0] * 10000 + parts[1] * 100 + parts[2] +
                   (strstr(text, "clang") ? 1000000u : 0);
        }
    }
    return 1; /* a compiler that does not say its version */
}

void emu_compiler_find(struct emu_compiler *compiler, const char *path, const char *work)
{
    static const char *const usual[] = {"/usr/local/bin/c++", "/usr/bin/c++", "/usr/bin/g++",
                                        "/usr/bin/clang++"};
    *compiler = (struct emu_compiler){0};
    /* The folder of the cache may still have to be made. */
    bool there = work && access(work, W_OK) == 0;
    snprintf(compiler->work, sizeof compiler->work, "%s", there ? work : "/tmp");
    if (path) {
        snprintf(compiler->path, sizeof compiler->path, "%s", path);
    }
    for (size_t i = 0; i < sizeof usual / sizeof usual[0] && !compiler->path[0]; i++) {
        if (access(usual[i], X_OK) == 0) {
            snprintf(compiler->path, sizeof compiler->path, "%s", usual[i]);
        }
    }
    struct workshop shop;
    struct buffer text = {0};
    int exit_code = 1;
    if (access(compiler->path, X_OK) == 0 && workshop_open(&shop, compiler->work)) {
        const char *arguments[] = {compiler->path, "--version", NULL};
        const struct child_run run = {arguments, shop.output, VERSION_TIMEOUT_MS};
        if (child_run(&run, &exit_code, NULL) == LLCUDA_OK && exit_code == 0 &&
            file_read_all(shop.output, 1u << 16, &text, NULL) == LLCUDA_OK) {
            compiler->version = version_of(buffer_text(&text));
        }
        workshop_close(&shop);
    }
    buffer_deinit(&text);
    if (compiler->version == 0) {
        compiler->path[0] = 0;
    }
}

/* Runs the compiler; its words go to `log`. */
static llcuda_status run_compiler(const struct workshop *shop, const char *const *arguments,
                                  const char *name, struct buffer *log, struct llcuda_error *error)
{
    const struct child_run run = {arguments, shop->output, COMPILE_TIMEOUT_MS};
    int exit_code = 0;
    llcuda_status status = child_run(&run, &exit_code, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    file_read_all(shop->output, 1u << 20, log, NULL);
    return exit_code ? error_set(error, LLCUDA_BAD_FORMAT,
                                 "'%s' cannot be compiled: %s ended with %d; see the log", name,
                                 arguments[0], exit_code)
                     : LLCUDA_OK;
}

static llcuda_status write_source(const struct workshop *shop,
                                  const struct gpu_compile_request *request,
                                  struct llcuda_error *error)
{
    struct buffer text = {0};
    /* Messages and sites name the module, not the temporary file. */
    buffer_append_text(&text, "# 1 \"");
    for (const char *c = request->name; *c; c++) {
        const bool plain = *c != '"' && *c != '\\' && (unsigned char)*c >= ' ';
        buffer_append_byte(&text, plain ? *c : '_');
    }
    buffer_append_text(&text, "\"\n");
    buffer_append_view(&text, request->source);
    llcuda_status status = write_text(shop->source, &text, error);
    buffer_deinit(&text);
    return status;
}

static llcuda_status preprocess(const struct emu_compiler *compiler, const struct workshop *shop,
                                const struct gpu_compile_request *request, struct buffer *log,
                                struct llcuda_error *error)
{
    const char *arguments[ARGUMENTS_MAX];
    uint32_t count = 0;
    struct buffer text = {0};
    struct buffer tail = {0};
    arguments[count++] = compiler->path;
    arguments[count++] = "-std=c++17";
#ifdef SANITIZE
    arguments[count++] = SANITIZE;
#endif
    for (uint32_t i = 0; i < request->option_count; i++) {
        arguments[count++] = request->options[i];
    }
    const char *const last[] = {"-E", "-o", shop->preprocessed, shop->source, NULL};
    memcpy(arguments + count, last, sizeof last);
    llcuda_status status = run_compiler(shop, arguments, request->name, log, error);
    if (status == LLCUDA_OK) {
        status = file_read_all(shop->preprocessed, TEXT_BYTES_MAX, &text, error);
    }
    if (status == LLCUDA_OK) {
        status = emu_scan(text.data, text.length, &tail, error);
    }
    if (status == LLCUDA_OK) {
        buffer_append_view(&text, buffer_view(&tail));
        status = write_text(shop->preprocessed, &text, error);
    }
    buffer_deinit(&tail);
    buffer_deinit(&text);
    return status;
}

static llcuda_status compile_preprocessed(const struct emu_compiler *compiler,
                                          const struct workshop *shop,
                                          const struct gpu_compile_request *request,
                                          struct buffer *log, struct llcuda_error *error)
{
    const char *arguments[ARGUMENTS_MAX];
    /* Without unique symbols a closed module is really unloaded. Sums keep their order: nothing
     * is contracted or reassociated. */
    const char *const flags[] = {
        compiler->path, "-x", "c++-cpp-output", "-std=c++17", "-fPIC", "-shared",
        "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-fno-strict-aliasing",
        "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-unknown-pragmas",
        "-Wno-unused-function", "-Wno-psabi", "-Wl,--as-needed",
#ifdef SANITIZE
        SANITIZE, "-fno-sanitize-recover=all",
        /* What the address sanitizer sees as well, at the access itself: a fifth of the time. */
        "-fno-sanitize=vptr,null,object-size,pointer-overflow", "-fno-omit-frame-pointer",
        "-g1", /* lines for reports; variables would be a third of the compiler's time */
        "-Og", /* checked as well as at -O1, in half of the compiler's time */
#else
        "-Og", /* 40 % of -O2's time; what runs then is mostly short */
#endif
    };
    uint32_t count = sizeof flags / sizeof flags[0];
    memcpy(arguments, flags, sizeof flags);
    if (compiler->version < 1000000u) {
        arguments[count++] = "-fno-gnu-unique";
    }
    if (strncmp(request->arch ? request->arch : emu_arch(), ARCH_V3, strlen(ARCH_V3)) == 0) {
        arguments[count++] = "-march=x86-64-v3";
    }
    for (uint32_t i = 0; i < request->option_count; i++) {
        arguments[count++] = request->options[i];
    }
    const char *const last[] = {"-o", shop->binary, shop->preprocessed, "-lm", NULL};
    memcpy(arguments + count, last, sizeof last);
    return run_compiler(shop, arguments, request->name, log, error);
}

llcuda_status emu_compile(const struct emu_compiler *compiler,
                          const struct gpu_compile_request *request, struct buffer *binary,
                          struct buffer *log, struct llcuda_error *error)
{
    struct workshop shop;
    if (!compiler->path[0]) {
        return error_set(error, LLCUDA_UNSUPPORTED,
                         "no C++ compiler is on this machine to compile '%s' for the emulated "
                         "GPU: install g++ or clang++",
                         request->name);
    }
    if (request->option_count > ARGUMENTS_MAX / 2) {
        return error_set(error, LLCUDA_LIMIT, "%u compiler options for '%s'", request->option_count,
                         request->name);
    }
    if (request->arch && strncmp(request->arch, "emu", 3) != 0) {
        return error_set(error, LLCUDA_UNSUPPORTED, "the emulated GPU cannot compile for '%s'",
                         request->arch);
    }
    if (!workshop_open(&shop, compiler->work)) {
        return error_set(error, LLCUDA_IO, "cannot make a temporary folder in '%s'",
                         compiler->work);
    }
    llcuda_status status = write_source(&shop, request, error);
    if (status == LLCUDA_OK) {
        status = preprocess(compiler, &shop, request, log, error);
    }
    if (status == LLCUDA_OK) {
        status = compile_preprocessed(compiler, &shop, request, log, error);
    }
    if (status == LLCUDA_OK) {
        status = file_read_all(shop.binary, BINARY_BYTES_MAX, binary, error);
    }
    workshop_close(&shop);
    return status;
}
