/* `llcuda inspect`: what a model file holds, from its headers alone. */
#include <stdio.h>

#include "cli/open.h"
#include "format/model_source.h"
#include "model/model.h"

/* Long arrays and texts are cut: a vocabulary is no reading matter. */
#define SHOWN_ELEMENTS 6u
#define SHOWN_BYTES    100u

static void append_scalar(struct buffer *out, enum gguf_kind kind, const uint8_t *element)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } value = {0};
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    memcpy(&value, element, bytes[kind]);
    switch (kind) {
    case GGUF_U8:
    case GGUF_BOOL:
        buffer_printf(out, "%u", value.u8);
        break;
    case GGUF_I8:
        buffer_printf(out, "%d", value.i8);
        break;
    case GGUF_U16:
        buffer_printf(out, "%u", value.u16);
        break;
    case GGUF_I16:
        buffer_printf(out, "%d", value.i16);
        break;
    case GGUF_U32:
        buffer_printf(out, "%u", value.u32);
        break;
    case GGUF_I32:
        buffer_printf(out, "%d", value.i32);
        break;
    case GGUF_U64:
        buffer_printf(out, "%llu", (unsigned long long)value.u64);
        break;
    case GGUF_I64:
        buffer_printf(out, "%lld", (long long)value.i64);
        break;
    case GGUF_F32:
        buffer_printf(out, "%g", (double)value.f32);
        break;
    case GGUF_F64:
        buffer_printf(out, "%g", value.f64);
        break;
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
}

static void append_text(struct buffer *out, struct text_view text)
{
    bool cut = text.length > SHOWN_BYTES;
    if (cut) {
        text.length = SHOWN_BYTES;
    }
    json_quote(out, text);
    buffer_append_text(out, cut ? " …" : "");
}

static void append_array(struct buffer *out, const struct gguf_value *value)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    buffer_printf(out, "%llu × [", (unsigned long long)value->count);
    for (uint64_t i = 0; i < value->count && i < SHOWN_ELEMENTS; i++) {
        buffer_append_text(out, i ? ", " : "");
        if (value->element_kind == GGUF_STRING) {
            append_text(out, value->texts[i]);
        } else {
            append_scalar(out, value->element_kind,
                          value->elements + i * bytes[value->element_kind]);
        }
    }
    buffer_append_text(out, value->count > SHOWN_ELEMENTS ? ", …]" : "]");
}

static void append_value(struct buffer *out, const struct gguf_value *value)
{
    switch (value->kind) {
    case GGUF_STRING:
        append_text(out, value->text);
        break;
    case GGUF_ARRAY:
        append_array(out, value);
        break;
    case GGUF_BOOL:
        buffer_append_text(out, value->unsigned_integer ? "true" : "false");
        break;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        buffer_printf(out, "%llu", (unsigned long long)value->unsigned_integer);
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        buffer_printf(out, "%lld", (long long)value->signed_integer);
        break;
    case GGUF_F32:
    case GGUF_F64:
        buffer_printf(out, "%g", value->number);
        break;
    }
}

static void append_shape(struct buffer *out, const struct tensor *tensor)
{
    buffer_append_byte(out, '[');
    for (uint32_t i = 0; i < tensor->rank; i++) {
        buffer_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)tensor->shape[i]);
    }
    buffer_append_byte(out, ']');
}

static void write_text(const struct model_source *source, const struct model_info *info,
                       const struct llcuda_error *problem, struct buffer *out)
{
    const struct gguf *gguf = model_source_gguf(source);
    struct text_view architecture = model_source_architecture(source);
    buffer_printf(out, "file           %s\n", model_source_path(source));
    if (gguf) {
        buffer_printf(out, "container      GGUF v%u\n", gguf_version(gguf));
    } else {
        buffer_append_text(out, "container      Hugging Face folder\n");
    }
    buffer_printf(out, "architecture   %.*s\n", TEXT_ARGUMENTS(architecture));
    buffer_printf(out, "size           %.1f MB, %llu tensors\n",
                  (double)model_source_file_bytes(source) / 1e6,
                  (unsigned long long)model_source_tensor_count(source));
    if (problem->status) {
        buffer_printf(out, "runs           no: %s\n", problem->message);
    } else {
        buffer_printf(
            out,
            "runs           yes\nparameters     %.1f M\nlayers         %u\n"
            "embedding      %u\nheads          %u, %u key-value, of size %u\n"
            "feed forward   %u\nvocabulary     %u%s\ncontext        %u\nrotary         %s\n",
            (double)info->parameter_count / 1e6, info->layer_count, info->embedding_length,
            info->head_count, info->kv_head_count, info->head_size, info->feed_forward_length,
            info->vocabulary_size, info->tied_embeddings ? ", tied" : "", info->context_length,
            info->rotary);
        if (info->expert_count) {
            buffer_printf(out, "experts        %u of %u, of length %u%s\n", info->used_count,
                          info->expert_count, info->expert_length,
                          info->shared_length ? ", and a shared one" : "");
        }
        if (info->window) {
            buffer_printf(out, "window         %u in %u layers\n", info->window,
                          info->window_layer_count);
        }
    }
    for (uint64_t i = 0; gguf && i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        buffer_printf(out, "%s  %-40.*s ", i ? "" : "\nmetadata\n", TEXT_ARGUMENTS(value->key));
        append_value(out, value);
        buffer_append_byte(out, '\n');
    }
    for (uint64_t i = 0; i < model_source_tensor_count(source); i++) {
        const struct tensor *tensor = model_source_tensor_at(source, i);
        buffer_printf(out, "%s  %-40.*s %-6s ", i ? "" : "\ntensors\n",
                      TEXT_ARGUMENTS(tensor->name), dtype_info(tensor->dtype)->name);
        append_shape(out, tensor);
        buffer_append_byte(out, '\n');
    }
}

static void write_number(struct json_writer *writer, const char *key, uint64_t value)
{
    json_key(writer, key);
    json_write_unsigned(writer, value);
}

static void write_info(struct json_writer *writer, const struct model_info *info)
{
    write_number(writer, "parameters", info->parameter_count);
    write_number(writer, "layers", info->layer_count);
    write_number(writer, "embedding_length", info->embedding_length);
    write_number(writer, "heads", info->head_count);
    write_number(writer, "kv_heads", info->kv_head_count);
    write_number(writer, "head_size", info->head_size);
    write_number(writer, "feed_forward_length", info->feed_forward_length);
    write_number(writer, "experts", info->expert_count);
    write_number(writer, "experts_used", info->used_count);
    write_number(writer, "vocabulary_size", info->vocabulary_size);
    write_number(writer, "context_length", info->context_length);
    write_number(writer, "window", info->window);
    json_key(writer, "rotary");
    json_write_string(writer, info->rotary);
}

static void write_json(const struct model_source *source, const struct model_info *info,
                       const struct llcuda_error *problem, struct buffer *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, 2);
    json_begin_object(&writer);
    json_key(&writer, "file");
    json_write_string(&writer, model_source_path(source));
    json_key(&writer, "container");
    json_write_string(&writer, model_source_gguf(source) ? "gguf" : "hugging_face");
    json_key(&writer, "architecture");
    json_write_text(&writer, model_source_architecture(source));
    write_number(&writer, "bytes", model_source_file_bytes(source));
    json_key(&writer, "runs");
    json_write_bool(&writer, problem->status == LLCUDA_OK);
    if (problem->status) {
        json_key(&writer, "problem");
        json_write_string(&writer, problem->message);
    } else {
        write_info(&writer, info);
    }
    json_key(&writer, "tensors");
    json_begin_array(&writer);
    for (uint64_t i = 0; i < model_source_tensor_count(source); i++) {
        const struct tensor *tensor = model_source_tensor_at(source, i);
        json_begin_object(&writer);
        json_key(&writer, "name");
        json_write_text(&writer, tensor->name);
        json_key(&writer, "type");
        json_write_string(&writer, dtype_info(tensor->dtype)->name);
        json_key(&writer, "shape");
        json_begin_array(&writer);
        for (uint32_t axis = 0; axis < tensor->rank; axis++) {
            json_write_unsigned(&writer, tensor->shape[axis]);
        }
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_append_byte(out, '\n');
}

int command_inspect(struct options *options)
{
    struct llcuda_error error = {0};
    struct llcuda_error problem = {0};
    struct model_source *source = NULL;
    struct model_info info = {0};
    struct plan *plan = NULL;
    struct buffer out = {0};
    if (options->argument_count > 1) {
        return console_usage(options->command, "give one MODEL");
    }
    llcuda_status status = options->argument_count
                               ? model_source_open(options->arguments[0], true, &source, &error)
                               : model_source_open_memory(builtin_model_data(),
                                                          builtin_model_bytes(), &source, &error);
    if (status) {
        return console_fail(options, &error);
    }
    /* Out of memory is the only trouble here that is not a fact about the file. */
    status = model_plan_build(source, &plan, &info, &problem);
    problem.status = status;
    int result = EXIT_FAILED;
    if (status == LLCUDA_OUT_OF_MEMORY) {
        console_fail(options, &problem);
    } else if (status == LLCUDA_BAD_FORMAT) {
        result = console_fail(options, &problem);
    } else {
        if (option_flag(options, OPTION_JSON)) {
            write_json(source, &info, &problem, &out);
        } else {
            write_text(source, &info, &problem, &out);
        }
        result = console_write_buffer(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    plan_destroy(plan);
    model_source_close(source);
    buffer_deinit(&out);
    return result;
}
