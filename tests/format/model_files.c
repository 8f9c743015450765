/* Owns nothing but the recipes of the sample files. */
#include "format/model_files.h"

#include "format/gguf_write.h"

void put_u8(struct buffer *out, uint8_t value)
{
    assert_true(buffer_append(out, &value, sizeof value));
}

void put_u32(struct buffer *out, uint32_t value)
{
    assert_true(buffer_append(out, &value, sizeof value));
}

void put_u64(struct buffer *out, uint64_t value)
{
    assert_true(buffer_append(out, &value, sizeof value));
}

void put_text(struct buffer *out, const char *text)
{
    put_u64(out, strlen(text));
    assert_true(buffer_append_text(out, text));
}

void put_gguf_prelude(struct buffer *out, uint64_t tensors, uint64_t values)
{
    assert_true(buffer_append_text(out, "GGUF"));
    put_u32(out, 3);
    put_u64(out, tensors);
    put_u64(out, values);
}

void put_gguf_tensor(struct buffer *out, const char *name, uint32_t rank, const uint64_t *shape,
                     uint32_t type, uint64_t offset)
{
    put_text(out, name);
    put_u32(out, rank);
    for (uint32_t i = 0; i < rank; i++) {
        put_u64(out, shape[i]);
    }
    put_u32(out, type);
    put_u64(out, offset);
}

void put_gguf_data(struct buffer *out, uint32_t alignment, uint64_t bytes)
{
    while (out->length % alignment) {
        put_u8(out, 0);
    }
    for (uint64_t i = 0; i < bytes; i++) {
        put_u8(out, (uint8_t)i);
    }
}

static void add_values(struct gguf_writer *writer)
{
    gguf_writer_add_text(writer, "general.architecture", text_view_of("llama"));
    gguf_writer_set_alignment(writer, 64);
    gguf_writer_add_u32(writer, "llama.block_count", 2);
    gguf_writer_add_f32(writer, "llama.rope.freq_base", 10000.0f);
    gguf_writer_add_bool(writer, "yes", true);
    static const uint8_t u8 = 200;
    static const int8_t i8 = -100;
    static const uint16_t u16 = 60000;
    static const int16_t i16 = -30000;
    static const int32_t i32 = -2000000000;
    static const uint64_t u64 = UINT64_MAX - 1;
    static const int64_t i64 = INT64_MIN;
    static const double f64 = 0.1;
    gguf_writer_add_scalar(writer, "u8", GGUF_U8, &u8);
    gguf_writer_add_scalar(writer, "i8", GGUF_I8, &i8);
    gguf_writer_add_scalar(writer, "u16", GGUF_U16, &u16);
    gguf_writer_add_scalar(writer, "i16", GGUF_I16, &i16);
    gguf_writer_add_scalar(writer, "i32", GGUF_I32, &i32);
    gguf_writer_add_scalar(writer, "u64", GGUF_U64, &u64);
    gguf_writer_add_scalar(writer, "i64", GGUF_I64, &i64);
    gguf_writer_add_scalar(writer, "f64", GGUF_F64, &f64);
    static const uint8_t bytes[] = {1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0};
    for (int kind = GGUF_U8; kind <= GGUF_F64; kind++) {
        if (kind != GGUF_STRING && kind != GGUF_ARRAY) {
            char key[32];
            snprintf(key, sizeof key, "array.%s", gguf_kind_name((enum gguf_kind)kind));
            gguf_writer_add_array(writer, key, (enum gguf_kind)kind, bytes,
                                  sizeof bytes / gguf_kind_bytes((enum gguf_kind)kind));
        }
    }
    const struct text_view texts[] = {text_view_of("one"), text_view_of(""),
                                      text_view_make("\xff\0x", 3), text_view_of("four")};
    gguf_writer_add_texts(writer, "array.string", texts, 4);
    gguf_writer_add_texts(writer, "array.empty", NULL, 0);
}

void sample_gguf(struct buffer *out)
{
    struct llcuda_error error;
    struct gguf_writer *writer;
    assert_ok(gguf_writer_create_memory(out, &writer, &error), error);
    add_values(writer);
    static const struct {
        const char *name;
        enum dtype dtype;
        uint32_t rank;
        uint64_t shape[4];
        uint64_t bytes;
    } tensors[] = {
        {"blk.0.weight", DTYPE_F32, 2, {3, 5}, 60},   {"scalar", DTYPE_F32, 0, {0}, 4},
        {"blk.1.weight", DTYPE_Q8_0, 1, {64}, 68},    {"cube", DTYPE_F16, 3, {2, 3, 4}, 48},
        {"four", DTYPE_Q4_K, 4, {1, 2, 1, 256}, 288},
    };
    for (size_t i = 0; i < 5; i++) {
        assert_ok(gguf_writer_add_tensor(writer, text_view_of(tensors[i].name), tensors[i].dtype,
                                         tensors[i].rank, tensors[i].shape, &error),
                  error);
    }
    assert_ok(gguf_writer_begin_data(writer, &error), error);
    for (size_t i = 0; i < 5; i++) {
        uint8_t data[288];
        for (size_t k = 0; k < sizeof data; k++) {
            data[k] = (uint8_t)(16 * i + k);
        }
        assert_ok(gguf_writer_data(writer, data, tensors[i].bytes, &error), error);
    }
    assert_ok(gguf_writer_finish(writer, &error), error);
}

uint8_t *exact_copy(const void *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes ? bytes : 1);
    assert_non_null(copy);
    if (bytes) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

static uint64_t sum_bytes(const void *data, uint64_t bytes)
{
    const uint8_t *byte = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        sum += byte[i];
    }
    return sum;
}

static uint64_t touch_value(const struct gguf_value *value)
{
    uint64_t sum = sum_bytes(value->key.data, value->key.length) + value->offset;
    if (value->kind == GGUF_STRING) {
        sum += sum_bytes(value->text.data, value->text.length);
    }
    if (value->kind == GGUF_ARRAY && value->element_kind == GGUF_STRING) {
        for (uint64_t i = 0; i < value->count; i++) {
            sum += sum_bytes(value->texts[i].data, value->texts[i].length);
        }
    } else if (value->kind == GGUF_ARRAY) {
        sum += sum_bytes(value->elements, value->count * gguf_kind_bytes(value->element_kind));
    }
    return sum;
}

uint64_t touch_gguf(const struct gguf *gguf)
{
    uint64_t sum = gguf_version(gguf) + gguf_alignment(gguf);
    for (uint64_t i = 0; i < gguf_value_count(gguf); i++) {
        sum += touch_value(gguf_value_at(gguf, i));
    }
    for (uint64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor_at(gguf, i);
        assert_ptr_equal(gguf_find_tensor(gguf, tensor->name), tensor);
        assert_true(tensor_elements(tensor) > 0);
        if (tensor->data) {
            sum += sum_bytes(tensor->data, tensor->bytes);
        }
    }
    return sum;
}

void put_safetensors(struct buffer *out, const char *header, uint64_t data_bytes)
{
    put_u64(out, strlen(header));
    assert_true(buffer_append_text(out, header));
    for (uint64_t i = 0; i < data_bytes; i++) {
        put_u8(out, (uint8_t)i);
    }
}
