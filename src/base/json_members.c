/* Owns the walk over the members of one object. Invariant: position only grows. It knows strings
 * and the nesting of brackets and nothing else of JSON. */
#include "base/json_members.h"

#include "base/utf8.h"

static llcuda_status expected(const struct json_members *members, const char *what)
{
    return error_set_at(members->error, LLCUDA_BAD_FORMAT, members->position,
                        members->position < members->text.length
                            ? "JSON has no %s at byte %zu"
                            : "JSON ends where %s was expected, at byte %zu",
                        what, members->position);
}

static void skip_space(struct json_members *members)
{
    while (members->position < members->text.length) {
        char c = members->text.data[members->position];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            break;
        }
        members->position++;
    }
}

static bool at(const struct json_members *members, char c)
{
    return members->position < members->text.length && members->text.data[members->position] == c;
}

/* From an opening quote to behind the closing one. */
static llcuda_status skip_string(struct json_members *members)
{
    for (members->position++; members->position < members->text.length; members->position++) {
        char c = members->text.data[members->position];
        if (c == '"') {
            members->position++;
            return LLCUDA_OK;
        }
        if (c == '\\') {
            members->position++;
        }
    }
    members->position = members->text.length;
    return expected(members, "a closing quote");
}

/* Over a string, a container with all it holds, or a number or word. */
static llcuda_status skip_value(struct json_members *members)
{
    size_t begin = members->position;
    uint32_t depth = 0;
    while (members->position < members->text.length) {
        char c = members->text.data[members->position];
        if (c == '"') {
            llcuda_status status = skip_string(members);
            if (status || depth == 0) {
                return status;
            }
            continue;
        }
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0) {
                break;
            }
            depth--;
            if (depth == 0) {
                members->position++;
                return LLCUDA_OK;
            }
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
            break;
        }
        members->position++;
    }
    if (depth || members->position == begin) {
        return expected(members, depth ? "a closing bracket" : "a value");
    }
    return LLCUDA_OK;
}

llcuda_status json_members_begin(struct json_members *members, struct text_view text, size_t begin,
                                 struct llcuda_error *error)
{
    *members = (struct json_members){.text = text, .position = begin, .error = error};
    skip_space(members);
    if (!at(members, '{')) {
        return expected(members, "'{'");
    }
    members->position++;
    return LLCUDA_OK;
}

llcuda_status json_members_next(struct json_members *members, struct json_member *member,
                                bool *more)
{
    skip_space(members);
    *more = !at(members, '}');
    if (!*more) {
        members->position++;
        return LLCUDA_OK;
    }
    if (members->count > 0) {
        if (!at(members, ',')) {
            return expected(members, "',' or '}'");
        }
        members->position++;
        skip_space(members);
    }
    if (!at(members, '"')) {
        return expected(members, "key in quotes");
    }
    member->key_begin = members->position;
    llcuda_status status = skip_string(members);
    if (status) {
        return status;
    }
    member->key_end = members->position;
    skip_space(members);
    if (!at(members, ':')) {
        return expected(members, "':'");
    }
    members->position++;
    skip_space(members);
    member->value_begin = members->position;
    status = skip_value(members);
    member->value_end = members->position;
    members->count++;
    return status;
}

llcuda_status json_value_at(struct text_view text, size_t begin, size_t end,
                            uint32_t value_count_max, struct json_document **document,
                            struct llcuda_error *error)
{
    struct json_options options = {
        .value_count_max = value_count_max, .unique_keys = true, .begin = begin};
    return json_parse(text_view_make(text.data, end), &options, document, error);
}

llcuda_status json_string_at(struct text_view text, size_t begin, size_t end, struct arena *arena,
                             struct text_view *out, struct llcuda_error *error)
{
    if (begin >= end || text.data[begin] != '"') {
        return error_set_at(error, LLCUDA_BAD_FORMAT, begin, "JSON has no string at byte %zu",
                            begin);
    }
    bool plain = end - begin >= 2 && text.data[end - 1] == '"';
    for (size_t i = begin + 1; plain && i + 1 < end; i++) {
        char c = text.data[i];
        plain = c != '\\' && c != '"' && (unsigned char)c >= 0x20;
    }
    if (plain) {
        *out = text_view_make(text.data + begin + 1, end - begin - 2);
        if (utf8_valid(*out)) {
            return LLCUDA_OK;
        }
    }
    /* Escapes, or something wrong: the parser decodes it or finds the words. */
    struct json_document *document;
    llcuda_status status = json_value_at(text, begin, end, 1, &document, error);
    if (status) {
        return status;
    }
    *out = arena_copy_text(arena, json_text(json_root(document)));
    if (!out->data) {
        status = error_no_memory(error, "a JSON string", end - begin);
    }
    json_destroy(document);
    return status;
}
