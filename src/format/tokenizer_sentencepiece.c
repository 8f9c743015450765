/* Owns the reading of SentencePiece's tokenizer.model: a ModelProto in protobuf's wire format, read
 * by a bounded reader of our own. Fields that are not needed are stepped over; a length that leaves
 * its message, an unfinished number or an unknown wire type is BAD_FORMAT with the byte. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "format/tokenizer_internal.h"
#include "format/tokenizer_source.h"

static const char space_symbol[] = "\xE2\x96\x81";

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* A message: bytes of the file, with its place in it for errors. */
struct message {
    const uint8_t *data;
    size_t size;
    size_t at;
    size_t offset; /* of data[0] in the file */
};

struct field {
    uint32_t number;
    uint32_t wire;
    uint64_t value;        /* VARINT, 64, 32 */
    struct message inside; /* BYTES */
    size_t offset;
};

static llcuda_status broken(const struct message *m, const char *what, struct llcuda_error *error)
{
    size_t offset = m->offset + m->at;
    return error_set_at(error, LLCUDA_BAD_FORMAT, offset, "%s at byte %zu of tokenizer.model", what,
                        offset);
}

static bool read_varint(struct message *m, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->size; shift += 7) {
        uint8_t byte = m->data[m->at++];
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct message *m, size_t bytes, uint64_t *out)
{
    if (m->size - m->at < bytes) {
        return false;
    }
    *out = 0;
    memcpy(out, m->data + m->at, bytes);
    m->at += bytes;
    return true;
}

/* The next field; *more is false at the end of the message. */
static llcuda_status next_field(struct message *m, struct field *field, bool *more,
                                struct llcuda_error *error)
{
    *more = m->at < m->size;
    if (!*more) {
        return LLCUDA_OK;
    }
    uint64_t tag;
    field->offset = m->offset + m->at;
    if (!read_varint(m, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) {
        return broken(m, "no field number", error);
    }
    field->number = (uint32_t)(tag >> 3);
    field->wire = (uint32_t)(tag & 7);
    bool read = false;
    switch (field->wire) {
    case WIRE_VARINT:
        read = read_varint(m, &field->value);
        break;
    case WIRE_64:
        read = read_fixed(m, 8, &field->value);
        break;
    case WIRE_32:
        read = read_fixed(m, 4, &field->value);
        break;
    case WIRE_BYTES:
        read = read_varint(m, &field->value) && field->value <= m->size - m->at;
        if (read) {
            field->inside =
                (struct message){m->data + m->at, (size_t)field->value, 0, m->offset + m->at};
            m->at += (size_t)field->value;
        }
        break;
    default:
        break;
    }
    return read ? LLCUDA_OK : broken(m, "an unfinished or unknown field", error);
}

static struct text_view field_text(const struct field *field)
{
    return text_view_make((const char *)field->inside.data, field->inside.size);
}

struct reader {
    struct vocabulary *vocabulary;
    struct llcuda_error *error;
    struct vocabulary_normalizer normalizer;
    uint64_t model_type;
    bool byte_fallback;
    int64_t unk_id, bos_id, eos_id, pad_id;
    struct text_view unk_surface;
};

/* ModelProto: pieces = 1, trainer_spec = 2, normalizer_spec = 3, self_test_data = 4,
 * denormalizer_spec = 5. */
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };

/* SentencePiece: piece = 1, score = 2, type = 3. */
static llcuda_status read_piece(struct reader *r, uint32_t id, struct message message)
{
    static const uint8_t kinds[] = {TOKEN_NORMAL,       TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL,
                                    TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE};
    struct vocabulary *v = r->vocabulary;
    struct text_view text = {0};
    uint64_t type = 1;
    struct field field;
    bool more;
    llcuda_status status = next_field(&message, &field, &more, r->error);
    while (!status && more) {
        if (field.number == 1 && field.wire == WIRE_BYTES) {
            text = field_text(&field);
        } else if (field.number == 2 && field.wire == WIRE_32) {
            float score;
            memcpy(&score, &field.value, sizeof score);
            v->scores[id] = (double)score;
        } else if (field.number == 3 && field.wire == WIRE_VARINT) {
            type = field.value;
        }
        status = next_field(&message, &field, &more, r->error);
    }
    if (status) {
        return status;
    }
    if (text.length == 0 || text.length > LIMIT_TOKEN_BYTES || !utf8_valid(text) ||
        type >= sizeof kinds) {
        return error_set_at(r->error, LLCUDA_BAD_FORMAT, message.offset,
                            "piece %u at byte %zu of tokenizer.model is empty, too long, no UTF-8 "
                            "or of an unknown type",
                            id, message.offset);
    }
    v->pieces[id] = vocabulary_copy(v, text);
    v->kinds[id] = kinds[type];
    v->in_model[id] = 1;
    return v->pieces[id].data ? LLCUDA_OK : error_no_memory(r->error, "a piece", text.length);
}

/* TrainerSpec: model_type = 3, treat_whitespace_as_suffix = 24, byte_fallback = 35, unk_id = 40,
 * bos_id = 41, eos_id = 42, pad_id = 43, unk_surface = 44. */
static llcuda_status read_trainer(struct reader *r, struct message message)
{
    struct field field;
    bool more;
    llcuda_status status = next_field(&message, &field, &more, r->error);
    while (!status && more) {
        if (field.wire == WIRE_BYTES && field.number == 44) {
            r->unk_surface = field_text(&field);
        } else if (field.wire == WIRE_VARINT) {
            switch (field.number) {
            case 3:
                r->model_type = field.value;
                break;
            case 24:
                r->normalizer.treat_whitespace_as_suffix = field.value != 0;
                break;
            case 35:
                r->byte_fallback = field.value != 0;
                break;
            case 40:
                r->unk_id = (int32_t)field.value;
                break;
            case 41:
                r->bos_id = (int32_t)field.value;
                break;
            case 42:
                r->eos_id = (int32_t)field.value;
                break;
            case 43:
                r->pad_id = (int32_t)field.value;
                break;
            default:
                break;
            }
        }
        status = next_field(&message, &field, &more, r->error);
    }
    return status;
}

/* NormalizerSpec: name = 1, precompiled_charsmap = 2, add_dummy_prefix = 3,
 * remove_extra_whitespaces = 4, escape_whitespaces = 5. */
static llcuda_status read_normalizer_spec(struct reader *r, struct message message)
{
    struct field field;
    bool more;
    llcuda_status status = next_field(&message, &field, &more, r->error);
    while (!status && more) {
        if (field.number == 2 && field.wire == WIRE_BYTES) {
            r->normalizer.charsmap = vocabulary_copy(r->vocabulary, field_text(&field));
            if (!r->normalizer.charsmap.data) {
                return error_no_memory(r->error, "a precompiled charsmap", field.inside.size);
            }
        } else if (field.wire == WIRE_VARINT) {
            bool on = field.value != 0;
            switch (field.number) {
            case 3:
                r->normalizer.add_dummy_prefix = on;
                break;
            case 4:
                r->normalizer.remove_extra_whitespaces = on;
                break;
            case 5:
                r->normalizer.escape_whitespaces = on;
                break;
            default:
                break;
            }
        }
        status = next_field(&message, &field, &more, r->error);
    }
    return status;
}

/* Counts the pieces and reads the other messages. */
static llcuda_status read_outline(struct reader *r, struct message message, uint64_t *pieces)
{
    struct field field;
    bool more;
    *pieces = 0;
    llcuda_status status = next_field(&message, &field, &more, r->error);
    while (!status && more) {
        if (field.wire == WIRE_BYTES && field.number == MODEL_PIECES) {
            (*pieces)++;
        } else if (field.wire == WIRE_BYTES && field.number == MODEL_TRAINER) {
            status = read_trainer(r, field.inside);
        } else if (field.wire == WIRE_BYTES && field.number == MODEL_NORMALIZER) {
            status = read_normalizer_spec(r, field.inside);
        }
        if (!status) {
            status = next_field(&message, &field, &more, r->error);
        }
    }
    return status;
}

static llcuda_status read_pieces(struct reader *r, struct message message, uint64_t count)
{
    llcuda_status status = vocabulary_set_token_count(r->vocabulary, count, true, r->error);
    uint32_t id = 0;
    struct field field;
    bool more = true;
    while (!status && more) {
        status = next_field(&message, &field, &more, r->error);
        if (!status && more && field.wire == WIRE_BYTES && field.number == MODEL_PIECES) {
            status = read_piece(r, id++, field.inside);
        }
    }
    return status;
}

/* The kind of a piece says what it is; the trainer's ids only help where a kind has several. */
static uint32_t special_id(const struct vocabulary *v, int64_t id, uint8_t kind)
{
    return id >= 0 && id < (int64_t)v->token_count && v->kinds[id] == kind ? (uint32_t)id
                                                                           : TOKEN_NONE;
}

static llcuda_status collect_added(struct reader *r)
{
    struct vocabulary *v = r->vocabulary;
    for (uint32_t id = 0; id < v->token_count; id++) {
        bool special = v->kinds[id] == TOKEN_CONTROL || v->kinds[id] == TOKEN_UNKNOWN;
        if (!special || v->pieces[id].length > VOCABULARY_ADDED_BYTES_MAX) {
            continue;
        }
        struct vocabulary_added *added = add_added(v);
        if (!added) {
            return error_no_memory(r->error, "an added token", sizeof *added);
        }
        *added = (struct vocabulary_added){.id = id, .content = v->pieces[id], .special = special};
    }
    return LLCUDA_OK;
}

static llcuda_status finish(struct reader *r, struct text_view config)
{
    struct vocabulary *v = r->vocabulary;
    switch (r->model_type) {
    case 1:
        v->kind = VOCABULARY_UNIGRAM;
        break;
    case 2:
        v->kind = VOCABULARY_SENTENCEPIECE;
        break;
    default:
        return error_set(r->error, LLCUDA_UNSUPPORTED,
                         "tokenizer.model is of type %llu; unigram (1) and BPE (2) are supported",
                         (unsigned long long)r->model_type);
    }
    v->byte_fallback = r->byte_fallback;
    v->fuse_unk = true;
    if (utf8_valid(r->unk_surface)) {
        v->unk_surface = vocabulary_copy(v, r->unk_surface);
        if (!v->unk_surface.data) {
            return error_no_memory(r->error, "the text of unknown tokens", r->unk_surface.length);
        }
    }
    v->float_sums = v->only_usable_kinds = v->kind == VOCABULARY_UNIGRAM;
    v->unk_id = special_id(v, r->unk_id, TOKEN_UNKNOWN);
    for (uint32_t id = 0; id < v->token_count && v->unk_id == TOKEN_NONE; id++) {
        v->unk_id = v->kinds[id] == TOKEN_UNKNOWN ? id : TOKEN_NONE;
    }
    v->bos_id = special_id(v, r->bos_id, TOKEN_CONTROL);
    v->eos_id = special_id(v, r->eos_id, TOKEN_CONTROL);
    v->pad_id = special_id(v, r->pad_id, TOKEN_CONTROL);
    v->normalizers[v->normalizer_count++] = r->normalizer;
    v->add_space_prefix = r->normalizer.add_dummy_prefix;
    bool drops = r->normalizer.add_dummy_prefix || r->normalizer.remove_extra_whitespaces;
    v->decoders[v->decoder_count++] = (struct vocabulary_decoder){.kind = DECODER_BYTE_FALLBACK};
    v->decoders[v->decoder_count++] =
        (struct vocabulary_decoder){.kind = drops ? DECODER_SENTENCEPIECE : DECODER_REPLACE,
                                    .pattern = text_view_of(space_symbol),
                                    .content = text_view_of(drops ? space_symbol : " "),
                                    .cleanup = r->normalizer.remove_extra_whitespaces};
    llcuda_status status = vocabulary_index_build(v, r->error);
    if (!status) {
        status = collect_added(r);
    }
    if (!status) {
        status = apply_tokenizer_config(v, config, r->error);
    }
    if (!status) {
        status = find_end_tokens(v, r->error);
    }
    return status ? status : vocabulary_check(v, r->error);
}

llcuda_status vocabulary_from_sentencepiece(const void *data, size_t bytes, struct text_view config,
                                            struct vocabulary **vocabulary,
                                            struct llcuda_error *error)
{
    *vocabulary = NULL;
    struct reader reader = {
        .error = error,
        .model_type = 1,
        .unk_id = 0,
        .bos_id = 1,
        .eos_id = 2,
        .pad_id = -1,
        .unk_surface = text_view_of(" \xE2\x81\x87 "), /* U+2047 between spaces */
        .normalizer = {.kind = NORMALIZER_SENTENCEPIECE,
                       .add_dummy_prefix = true,
                       .remove_extra_whitespaces = true,
                       .escape_whitespaces = true,
                       .dummy_prefix_after_specials = true},
    };
    struct message message = {data, bytes, 0, 0};
    uint64_t count;
    llcuda_status status = vocabulary_create(VOCABULARY_UNIGRAM, &reader.vocabulary, error);
    if (!status) {
        status = read_outline(&reader, message, &count);
    }
    if (!status) {
        status = count ? read_pieces(&reader, message, count)
                       : error_set(error, LLCUDA_BAD_FORMAT, "tokenizer.model has no pieces");
    }
    if (!status) {
        status = finish(&reader, config);
    }
    if (status) {
        vocabulary_destroy(reader.vocabulary);
        return status;
    }
    *vocabulary = reader.vocabulary;
    return LLCUDA_OK;
}
