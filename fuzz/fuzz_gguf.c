/* GGUF: open from memory and touch all that is promised to be readable; open the same bytes as a
 * file, through the window, which must agree; write what was read and read that again. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/gguf_write.h"

static volatile uint64_t sink;

static void touch(const void *data, uint64_t bytes)
{
    const uint8_t *byte = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        sum += byte[i];
    }
    sink += sum;
}

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void read_typed(const struct gguf *gguf, const char *key)
{
    uint64_t integer;
    double number;
    bool boolean;
    struct text_view text;
    const struct gguf_value *array;
    struct llcuda_error error;
    if (!gguf_read_u64(gguf, key, 1, 1u << 20, &integer, &error)) {
        check(integer >= 1 && integer <= 1u << 20);
    }
    if (!gguf_read_number(gguf, key, 0.5, 1e9, &number, &error)) {
        check(number >= 0.5 && number <= 1e9);
    }
    gguf_read_bool(gguf, key, &boolean, &error);
    if (!gguf_read_text(gguf, key, &text, &error)) {
        touch(text.data, text.length);
    }
    if (!gguf_read_array(gguf, key, GGUF_STRING, 0, &array, &error)) {
        for (uint64_t i = 0; i < array->count; i++) {
            touch(array->texts[i].data, array->texts[i].length);
        }
    }
    if (!gguf_read_array(gguf, key, GGUF_F32, 4, &array, &error)) {
        check(array->count == 4);
        touch(array->elements, 16);
    }
}

static void touch_all(const struct gguf *gguf)
{
    static const char *const keys[] = {"general.architecture",  "general.alignment", "a", "k",
                                       "tokenizer.ggml.tokens", "llama.block_count"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        read_typed(gguf, keys[i]);
    }
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        touch(value->key.data, value->key.length);
        if (value->kind == GGUF_ARRAY && value->element_kind != GGUF_STRING) {
            touch(value->elements, value->count * gguf_kind_bytes(value->element_kind));
        }
    }
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        check(gguf_find_tensor(gguf, tensor->name) == tensor);
        check(tensor_elements(tensor) > 0 && tensor->bytes > 0);
        touch(tensor->data, tensor->bytes);
    }
}

/* The file of the same bytes: it must open when memory does and hold the same number of things. */
static void compare_with_file(const uint8_t *data, size_t size, const struct gguf *memory,
                              llcuda_status expected)
{
    int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];
    struct gguf *gguf;
    struct llcuda_error error;
    check(descriptor >= 0 && write(descriptor, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    llcuda_status status = gguf_open(path, true, &gguf, &error);
    check(status == expected);
    if (!status) {
        check(gguf_value_count(gguf) == gguf_value_count(memory));
        check(gguf_tensor_count(gguf) == gguf_tensor_count(memory));
    }
    gguf_close(gguf);
    close(descriptor);
}

static void write_and_read_again(const struct gguf *gguf)
{
    struct buffer out = {0};
    struct gguf_writer *writer;
    struct gguf *again;
    struct llcuda_error error;
    check(!gguf_writer_create_memory(&out, &writer, &error));
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        if (!text_view_is(value->key, "general.alignment")) {
            gguf_writer_add_value(writer, value);
        }
    }
    gguf_writer_set_alignment(writer, gguf_alignment(gguf) < 4096 ? gguf_alignment(gguf) : 4096);
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        check(!gguf_writer_add_tensor(writer, tensor->name, tensor->dtype, tensor->rank,
                                      tensor->shape, &error));
    }
    check(!gguf_writer_begin_data(writer, &error));
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        check(!gguf_writer_data(writer, tensor->data, tensor->bytes, &error));
    }
    check(!gguf_writer_finish(writer, &error));
    check(!gguf_open_memory(out.data, out.length, &again, &error));
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *a = gguf_tensor_at(gguf, i);
        const struct tensor *b = gguf_tensor_at(again, i);
        check(text_view_equal(a->name, b->name) && a->bytes == b->bytes && a->dtype == b->dtype);
        check(memcmp(a->data, b->data, a->bytes) == 0);
    }
    gguf_close(again);
    buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *gguf;
    struct llcuda_error error = {0};
    llcuda_status status = gguf_open_memory(data, size, &gguf, &error);
    if (status) {
        check(error.status == status && error.message[0]);
        check(error.offset == LLCUDA_NO_OFFSET || error.offset <= size);
    } else {
        touch_all(gguf);
        write_and_read_again(gguf);
    }
    compare_with_file(data, size, gguf, status);
    gguf_close(gguf);
    return 0;
}
