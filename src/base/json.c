/* Owns JSON reading: an iterative parser into one growing table. Invariants: no recursion, every
 * count is bounded by the bytes that remain, the table never holds more values than bytes read. */
#include "base/json.h"

#include <locale.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/random.h"
#include "base/utf8.h"

struct json_document {
    struct json_value *values;
    uint32_t count;
    uint32_t capacity;
    struct arena strings;
};

struct parser {
    const char *data;
    size_t size;
    size_t position;
    struct json_document *document;
    struct json_options options;
    struct llcuda_error *error;
    uint32_t stack[LIMIT_JSON_DEPTH]; /* open containers, as indices of values */
    uint32_t depth;
};

static llcuda_status fail(struct parser *parser, const char *what)
{
    if (parser->position >= parser->size) {
        return error_set_at(parser->error, LLCUDA_BAD_FORMAT, parser->position,
                            "JSON ends at byte %zu where %s was expected", parser->position, what);
    }
    return error_set_at(parser->error, LLCUDA_BAD_FORMAT, parser->position,
                        "JSON has no %s at byte %zu", what, parser->position);
}

static void skip_space(struct parser *parser)
{
    while (parser->position < parser->size) {
        char c = parser->data[parser->position];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            break;
        }
        parser->position++;
    }
}

static llcuda_status add_value(struct parser *parser, enum json_kind kind, uint32_t *index)
{
    struct json_document *document = parser->document;
    if (document->count == document->capacity) {
        if (document->capacity >= parser->options.value_count_max) {
            return error_set_at(parser->error, LLCUDA_LIMIT, parser->position,
                                "JSON has more than %u values", parser->options.value_count_max);
        }
        uint32_t capacity = document->capacity ? document->capacity * 2 : 64;
        if (capacity > parser->options.value_count_max || capacity < document->capacity) {
            capacity = parser->options.value_count_max;
        }
        void *values = realloc(document->values, (size_t)capacity * sizeof *document->values);
        if (!values) {
            return error_no_memory(parser->error, "JSON values",
                                   (uint64_t)capacity * sizeof *document->values);
        }
        document->values = values;
        document->capacity = capacity;
    }
    *index = document->count++;
    document->values[*index] =
        (struct json_value){.kind = (uint8_t)kind, .span = 1, .offset = (uint32_t)parser->position};
    return LLCUDA_OK;
}

static bool read_hex4(struct parser *parser, size_t at, uint32_t *out)
{
    if (parser->size - at < 4) {
        return false;
    }
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        char c = parser->data[at + i];
        uint32_t digit;
        if (c >= '0' && c <= '9') {
            digit = (uint32_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (uint32_t)(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = (uint32_t)(c - 'A') + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* Decodes one escape; parser->position is at the backslash. A lone surrogate becomes U+FFFD, as
 * the text must stay valid UTF-8. */
static bool read_escape(struct parser *parser, char *out, size_t *written)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (parser->size - parser->position < 2) {
        return false;
    }
    char c = parser->data[parser->position + 1];
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        out[0] = to[simple - from];
        *written = 1;
        parser->position += 2;
        return true;
    }
    uint32_t code;
    if (c != 'u' || !read_hex4(parser, parser->position + 2, &code)) {
        return false;
    }
    parser->position += 6;
    if (code >= 0xD800 && code <= 0xDFFF) {
        uint32_t low;
        bool pair = code < 0xDC00 && parser->size - parser->position >= 6 &&
                    parser->data[parser->position] == '\\' &&
                    parser->data[parser->position + 1] == 'u' &&
                    read_hex4(parser, parser->position + 2, &low) && low >= 0xDC00 && low <= 0xDFFF;
        if (pair) {
            parser->position += 6;
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else {
            code = UTF8_REPLACEMENT;
        }
    }
    *written = utf8_encode(code, out);
    return true;
}

/* Finds the closing quote; true in *escaped when decoding is needed. */
static bool scan_string(struct parser *parser, size_t *end, bool *escaped)
{
    size_t position = parser->position;
    *escaped = false;
    while (position < parser->size) {
        unsigned char c = (unsigned char)parser->data[position];
        if (c == '"') {
            *end = position;
            return true;
        }
        if (c < 0x20) {
            break;
        }
        if (c == '\\') {
            *escaped = true;
            position++;
        }
        position++;
    }
    parser->position = position < parser->size ? position : parser->size;
    return false;
}

static llcuda_status parse_string(struct parser *parser)
{
    uint32_t index;
    llcuda_status status = add_value(parser, JSON_STRING, &index);
    if (status) {
        return status;
    }
    struct json_value *value = &parser->document->values[index];
    parser->position++;
    size_t begin = parser->position;
    size_t end;
    bool escaped;
    if (!scan_string(parser, &end, &escaped)) {
        return fail(parser, "closing quote");
    }
    if (!utf8_valid(text_view_make(parser->data + begin, end - begin))) {
        return fail(parser, "valid UTF-8");
    }
    if (!escaped) {
        value->string = parser->data + begin;
        value->count = (uint32_t)(end - begin);
        parser->position = end + 1;
        return LLCUDA_OK;
    }
    char *decoded = arena_alloc(&parser->document->strings, end - begin + 1, 1);
    if (!decoded) {
        return error_no_memory(parser->error, "a JSON string", end - begin);
    }
    size_t length = 0;
    while (parser->position < end) {
        if (parser->data[parser->position] != '\\') {
            decoded[length++] = parser->data[parser->position++];
            continue;
        }
        size_t written;
        if (!read_escape(parser, decoded + length, &written)) {
            return fail(parser, "valid escape");
        }
        length += written;
    }
    value->string = decoded;
    value->count = (uint32_t)length;
    parser->position = end + 1;
    return LLCUDA_OK;
}

static size_t scan_digits(struct parser *parser)
{
    size_t begin = parser->position;
    while (parser->position < parser->size && parser->data[parser->position] >= '0' &&
           parser->data[parser->position] <= '9') {
        parser->position++;
    }
    return parser->position - begin;
}

/* strtod of the "C" locale, whatever the host program has set; the token is copied because the
 * source has no NUL behind it. */
static bool parse_double(const char *data, size_t length, double *out)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    /* Fast and exact: at most 15 digits and a power of ten that a double holds exactly. */
    uint64_t mantissa = 0;
    size_t digits = 0;
    int exponent = 0;
    size_t i = data[0] == '-' ? 1 : 0;
    bool fraction = false;
    for (; i < length && digits <= 15; i++) {
        if (data[i] == '.') {
            fraction = true;
            continue;
        }
        if (data[i] < '0' || data[i] > '9') {
            break;
        }
        mantissa = mantissa * 10 + (uint64_t)(data[i] - '0');
        digits += mantissa != 0;
        exponent -= fraction;
    }
    if (i == length && digits <= 15 && exponent >= -22) {
        double value = (double)mantissa / powers[-exponent];
        *out = data[0] == '-' ? -value : value;
        return true;
    }
    char stack_copy[64];
    char *copy = length < sizeof stack_copy ? stack_copy : malloc(length + 1);
    if (!copy) {
        return false;
    }
    memcpy(copy, data, length);
    copy[length] = 0;
    locale_t locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (locale) {
        *out = strtod_l(copy, NULL, locale);
        freelocale(locale);
    }
    if (copy != stack_copy) {
        free(copy);
    }
    return locale != (locale_t)0;
}

static llcuda_status parse_number(struct parser *parser)
{
    uint32_t index;
    llcuda_status status = add_value(parser, JSON_INTEGER, &index);
    if (status) {
        return status;
    }
    size_t begin = parser->position;
    bool negative = parser->data[begin] == '-';
    parser->position += negative;
    bool leading_zero = parser->position < parser->size && parser->data[parser->position] == '0';
    size_t digits = scan_digits(parser);
    if (digits == 0 || (leading_zero && digits > 1)) {
        return fail(parser, "valid number");
    }
    bool integral = true;
    if (parser->position < parser->size && parser->data[parser->position] == '.') {
        integral = false;
        parser->position++;
        if (scan_digits(parser) == 0) {
            return fail(parser, "digit after the point");
        }
    }
    if (parser->position < parser->size &&
        (parser->data[parser->position] == 'e' || parser->data[parser->position] == 'E')) {
        integral = false;
        parser->position++;
        if (parser->position < parser->size &&
            (parser->data[parser->position] == '+' || parser->data[parser->position] == '-')) {
            parser->position++;
        }
        if (scan_digits(parser) == 0) {
            return fail(parser, "digit in the exponent");
        }
    }
    struct json_value *value = &parser->document->values[index];
    if (integral && digits <= 18) {
        int64_t magnitude = 0;
        for (size_t i = begin + negative; i < parser->position; i++) {
            magnitude = magnitude * 10 + (parser->data[i] - '0');
        }
        value->integer = negative ? -magnitude : magnitude;
        return LLCUDA_OK;
    }
    double number;
    if (!parse_double(parser->data + begin, parser->position - begin, &number)) {
        return error_no_memory(parser->error, "a JSON number", parser->position - begin);
    }
    value->kind = JSON_NUMBER;
    value->number = number;
    return LLCUDA_OK;
}

static llcuda_status parse_word(struct parser *parser, const char *word, enum json_kind kind)
{
    size_t length = strlen(word);
    if (parser->size - parser->position < length ||
        memcmp(parser->data + parser->position, word, length) != 0) {
        return fail(parser, "valid value");
    }
    uint32_t index;
    llcuda_status status = add_value(parser, kind, &index);
    parser->position += length;
    return status;
}

/* Keyed by a random seed: keys that all fall into one slot cannot be prepared. */
static uint64_t hash_text(uint64_t seed, struct text_view text)
{
    uint64_t hash = seed ^ text.length;
    size_t i = 0;
    for (; i + 8 <= text.length; i += 8) {
        uint64_t word;
        memcpy(&word, text.data + i, sizeof word);
        hash = random_mix(hash ^ word);
    }
    uint64_t rest = 0;
    for (; i < text.length; i++) {
        rest = rest << 8 | (uint8_t)text.data[i];
    }
    return random_mix(hash ^ rest);
}

/* Open addressing over the keys of one object; only where the caller wants unique keys. */
static llcuda_status check_unique(struct parser *parser, const struct json_value *object)
{
    size_t capacity = 16;
    while (capacity < (size_t)object->count * 2) {
        capacity *= 2;
    }
    const struct json_value **table = calloc(capacity, sizeof(void *));
    if (!table) {
        return error_no_memory(parser->error, "a JSON key table", capacity * sizeof(void *));
    }
    llcuda_status status = LLCUDA_OK;
    uint64_t seed = object->count > 16 ? random_seed() : 0;
    JSON_EACH_KEY(key, object)
    {
        size_t slot = (size_t)hash_text(seed, json_text(key)) & (capacity - 1);
        while (table[slot] && !text_view_equal(json_text(table[slot]), json_text(key))) {
            slot = (slot + 1) & (capacity - 1);
        }
        if (table[slot]) {
            status = error_set_at(parser->error, LLCUDA_BAD_FORMAT, key->offset,
                                  "JSON has the key \"%.*s\" twice, again at byte %u",
                                  key->count > 80 ? 80 : (int)key->count, key->string, key->offset);
            break;
        }
        table[slot] = key;
    }
    free(table);
    return status;
}

static llcuda_status open_container(struct parser *parser, enum json_kind kind)
{
    if (parser->depth >= parser->options.depth_max) {
        return error_set_at(parser->error, LLCUDA_LIMIT, parser->position,
                            "JSON is nested deeper than %u levels at byte %zu",
                            parser->options.depth_max, parser->position);
    }
    uint32_t index;
    llcuda_status status = add_value(parser, kind, &index);
    if (!status) {
        parser->stack[parser->depth++] = index;
        parser->position++;
    }
    return status;
}

static llcuda_status close_container(struct parser *parser)
{
    struct json_value *value = &parser->document->values[parser->stack[--parser->depth]];
    value->span = parser->document->count - (uint32_t)(value - parser->document->values);
    parser->position++;
    if (value->kind == JSON_OBJECT && parser->options.unique_keys) {
        return check_unique(parser, value);
    }
    return LLCUDA_OK;
}

static llcuda_status parse_scalar_or_open(struct parser *parser)
{
    if (parser->position >= parser->size) {
        return fail(parser, "a value");
    }
    switch (parser->data[parser->position]) {
    case '{':
        return open_container(parser, JSON_OBJECT);
    case '[':
        return open_container(parser, JSON_ARRAY);
    case '"':
        return parse_string(parser);
    case 't':
        return parse_word(parser, "true", JSON_TRUE);
    case 'f':
        return parse_word(parser, "false", JSON_FALSE);
    case 'n':
        return parse_word(parser, "null", JSON_NULL);
    default:
        return parse_number(parser);
    }
}

/* One member or element of the innermost container, or its end. */
static llcuda_status parse_item(struct parser *parser)
{
    struct json_value *container = &parser->document->values[parser->stack[parser->depth - 1]];
    bool object = container->kind == JSON_OBJECT;
    skip_space(parser);
    if (parser->position < parser->size && parser->data[parser->position] == (object ? '}' : ']')) {
        return close_container(parser);
    }
    if (container->count > 0) {
        if (parser->position >= parser->size || parser->data[parser->position] != ',') {
            return fail(parser, object ? "',' or '}'" : "',' or ']'");
        }
        parser->position++;
        skip_space(parser);
    }
    container->count++;
    if (object) {
        if (parser->position >= parser->size || parser->data[parser->position] != '"') {
            return fail(parser, "key in quotes");
        }
        llcuda_status status = parse_string(parser);
        if (status) {
            return status;
        }
        skip_space(parser);
        if (parser->position >= parser->size || parser->data[parser->position] != ':') {
            return fail(parser, "':'");
        }
        parser->position++;
        skip_space(parser);
    }
    return parse_scalar_or_open(parser);
}

static llcuda_status parse_document(struct parser *parser)
{
    skip_space(parser);
    llcuda_status status = parse_scalar_or_open(parser);
    while (!status && parser->depth > 0) {
        status = parse_item(parser);
    }
    if (status) {
        return status;
    }
    skip_space(parser);
    return parser->position == parser->size ? LLCUDA_OK : fail(parser, "end of the document");
}

llcuda_status json_parse(struct text_view text, const struct json_options *options,
                         struct json_document **document, struct llcuda_error *error)
{
    *document = NULL;
    if (text.length > LIMIT_JSON_BYTES) {
        return error_set(error, LLCUDA_LIMIT, "JSON of %zu bytes is larger than the limit",
                         text.length);
    }
    struct json_document *made = calloc(1, sizeof *made);
    if (!made) {
        return error_no_memory(error, "a JSON document", sizeof *made);
    }
    arena_init(&made->strings, 0);
    struct parser parser = {
        .data = text.data, .size = text.length, .document = made, .error = error};
    if (options) {
        parser.options = *options;
        parser.position = options->begin < text.length ? options->begin : text.length;
    }
    if (parser.options.depth_max == 0 || parser.options.depth_max > LIMIT_JSON_DEPTH) {
        parser.options.depth_max = LIMIT_JSON_DEPTH;
    }
    if (parser.options.value_count_max == 0) {
        parser.options.value_count_max = UINT32_MAX / 2;
    }
    llcuda_status status = parse_document(&parser);
    if (status) {
        json_destroy(made);
        return status;
    }
    *document = made;
    return LLCUDA_OK;
}

void json_destroy(struct json_document *document)
{
    if (document) {
        arena_deinit(&document->strings);
        free(document->values);
        free(document);
    }
}

const struct json_value *json_root(const struct json_document *document)
{
    return document->values;
}

const struct json_value *json_member(const struct json_value *object, const char *key)
{
    const struct json_value *found = NULL;
    JSON_EACH_KEY(member, object)
    {
        if (text_view_is(json_text(member), key)) {
            found = json_next(member);
        }
    }
    return found;
}

struct text_view json_text(const struct json_value *value)
{
    if (!json_is(value, JSON_STRING)) {
        return text_view_make(NULL, 0);
    }
    return text_view_make(value->string, value->count);
}

bool json_integer(const struct json_value *value, int64_t minimum, int64_t maximum, int64_t *out)
{
    int64_t integer;
    if (json_is(value, JSON_INTEGER)) {
        integer = value->integer;
    } else if (json_is(value, JSON_NUMBER) && value->number >= -0x1p53 && value->number <= 0x1p53 &&
               (double)(int64_t)value->number == value->number) {
        integer = (int64_t)value->number;
    } else {
        return false;
    }
    if (integer < minimum || integer > maximum) {
        return false;
    }
    *out = integer;
    return true;
}

bool json_number(const struct json_value *value, double *out)
{
    if (json_is(value, JSON_INTEGER)) {
        *out = (double)value->integer;
        return true;
    }
    if (json_is(value, JSON_NUMBER)) {
        *out = value->number;
        return true;
    }
    return false;
}

bool json_bool(const struct json_value *value, bool fallback)
{
    if (json_is(value, JSON_TRUE)) {
        return true;
    }
    return json_is(value, JSON_FALSE) ? false : fallback;
}

const char *json_kind_name(const struct json_value *value)
{
    static const char *const names[] = {"null",     "a boolean", "a boolean", "an integer",
                                        "a number", "a string",  "an array",  "an object"};
    return value ? names[value->kind] : "missing";
}
