/* Owns the reading of preprocessed kernel text as far as finding the kernels needs it: words,
 * literals and brackets. A kernel is `__global__ … void [KERNEL_BOUNDS(threads, blocks)] name(`.
 * Line markers of the preprocessor and strings are skipped, so that no word in them counts. */
#include <ctype.h>
#include <string.h>

#include "gpu/emu_scan.h"

#define KERNELS_MAX 512u

struct scan {
    char *text;
    size_t length;
    size_t at;
};

struct kernel {
    struct text_view name;
    struct text_view threads; /* first argument of KERNEL_BOUNDS, empty without */
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Moves past what is no token: blanks, line markers. */
static void skip_blank(struct scan *scan)
{
    while (scan->at < scan->length) {
        const char c = scan->text[scan->at];
        if (c == '#' && (scan->at == 0 || scan->text[scan->at - 1] == '\n')) {
            while (scan->at < scan->length && scan->text[scan->at] != '\n') {
                scan->at++;
            }
        } else if (isspace((unsigned char)c)) {
            scan->at++;
        } else {
            return;
        }
    }
}

static void skip_literal(struct scan *scan)
{
    const char quote = scan->text[scan->at++];
    while (scan->at < scan->length && scan->text[scan->at] != quote) {
        scan->at += scan->text[scan->at] == '\\' ? 2 : 1;
    }
    scan->at++;
}

/* The next token: a word, a literal (empty view) or one sign. False at the end. */
static bool next_token(struct scan *scan, struct text_view *token)
{
    skip_blank(scan);
    if (scan->at >= scan->length) {
        return false;
    }
    const size_t start = scan->at;
    const char c = scan->text[start];
    if (c == '"' || c == '\'') {
        skip_literal(scan);
        *token = text_view_make(scan->text + start, 0);
        return true;
    }
    scan->at++;
    if (is_word(c)) {
        /* Digit separators (1'000) are part of a number. */
        while (scan->at < scan->length &&
               (is_word(scan->text[scan->at]) ||
                (isdigit((unsigned char)c) && scan->text[scan->at] == '\''))) {
            scan->at++;
        }
    }
    *token = text_view_make(scan->text + start, scan->at - start);
    return true;
}

/* The text between brackets, after `(` was read; `first_end` is the end of its first argument. */
static bool read_brackets(struct scan *scan, struct text_view *first)
{
    const size_t start = scan->at;
    size_t end = 0;
    uint32_t depth = 1;
    struct text_view token;
    while (depth && next_token(scan, &token)) {
        if (text_view_is(token, "(")) {
            depth++;
        } else if (text_view_is(token, ")")) {
            depth--;
        }
        const bool closes = depth == 0 || (depth == 1 && text_view_is(token, ","));
        if (closes && end == 0) {
            end = scan->at - 1;
        }
    }
    *first = text_view_make(scan->text + start, end > start ? end - start : 0);
    return depth == 0;
}

static void blank(struct scan *scan, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (scan->text[i] != '\n') {
            scan->text[i] = ' ';
        }
    }
}

/* After `__global__`. */
static bool read_kernel(struct scan *scan, struct buffer *bounds, struct kernel *kernel)
{
    struct text_view token;
    struct text_view last = {0};
    struct text_view brackets;
    while (next_token(scan, &token)) {
        const bool is_bounds = text_view_is(token, "KERNEL_BOUNDS");
        if (is_bounds || text_view_is(token, "__attribute__")) {
            const size_t start = scan->at - token.length;
            if (!next_token(scan, &token) || !text_view_is(token, "(") ||
                !read_brackets(scan, &brackets)) {
                return false;
            }
            if (is_bounds) {
                /* Copied, since the text it lies in is blanked out. */
                const size_t offset = bounds->length;
                buffer_append_view(bounds, brackets);
                kernel->threads = text_view_make(NULL, bounds->length - offset);
                blank(scan, start, scan->at);
            }
        } else if (text_view_is(token, "(")) {
            kernel->name = last;
            return last.length > 0;
        } else if (token.length && is_word(token.data[0])) {
            last = token;
        } else {
            return false;
        }
    }
    return false;
}

/* A kernel may be declared before it is defined. */
static bool is_known(const struct kernel *kernels, uint32_t count, struct text_view name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (text_view_equal(kernels[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void append_tail(struct buffer *tail, const struct kernel *kernels, uint32_t count,
                        const struct buffer *bounds)
{
    size_t offset = 0;
    buffer_append_text(tail, "\n# 1 \"table of kernels\"\n");
    for (uint32_t i = 0; i < count; i++) {
        buffer_printf(tail,
                      "static void emu_call_%u(const void *arguments)\n"
                      "{ emu_invoke(%.*s, arguments); }\n",
                      i, TEXT_ARGUMENTS(kernels[i].name));
    }
    buffer_append_text(tail, "static const struct emu_kernel emu_kernels[] = {\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct text_view threads =
            text_view_make(buffer_text(bounds) + offset, kernels[i].threads.length);
        offset += threads.length;
        buffer_printf(tail, "{\"%.*s\", emu_call_%u, emu_argument_bytes(%.*s), %.*s},\n",
                      TEXT_ARGUMENTS(kernels[i].name), i, TEXT_ARGUMENTS(kernels[i].name),
                      TEXT_ARGUMENTS(threads.length ? threads : text_view_of("0")));
    }
    buffer_printf(tail,
                  "{nullptr, nullptr, 0, 0}};\n"
                  "extern \"C\" {\n"
                  "extern __attribute__((visibility(\"default\"))) const struct emu_module "
                  "emu_module;\n"
                  "const struct emu_module emu_module = {EMU_ABI_VERSION, %u, emu_kernels, "
                  "&emu_self, &emu_runtime, emu_shared_anchor};\n}\n",
                  count);
}

llcuda_status emu_scan(char *text, size_t length, struct buffer *tail, struct llcuda_error *error)
{
    struct scan scan = {text, length, 0};
    struct kernel kernels[KERNELS_MAX];
    uint32_t count = 0;
    struct buffer bounds = {0};
    struct text_view token;
    llcuda_status status = LLCUDA_OK;
    while (next_token(&scan, &token)) {
        if (!text_view_is(token, "__global__")) {
            continue;
        }
        struct kernel *kernel = &kernels[count];
        blank(&scan, scan.at - token.length, scan.at);
        if (count == KERNELS_MAX) {
            status =
                error_set(error, LLCUDA_LIMIT, "a module has more than %u kernels", KERNELS_MAX);
            goto done;
        }
        *kernel = (struct kernel){0};
        if (!read_kernel(&scan, &bounds, kernel)) {
            status = error_set(error, LLCUDA_BAD_FORMAT,
                               "the text after __global__ number %u is no kernel", count + 1);
            goto done;
        }
        if (is_known(kernels, count, kernel->name)) {
            bounds.length -= kernel->threads.length;
        } else {
            count++;
        }
    }
    append_tail(tail, kernels, count, &bounds);
    if (tail->failed || bounds.failed) {
        status = error_no_memory(error, "the table of kernels", length);
    }
done:
    buffer_deinit(&bounds);
    return status;
}
