/* The members of one JSON object, one at a time, for objects with so many members that a table of
 * all their values would be out of proportion to the text: the header of a weight file is one. The
 * walk finds where members begin and end; what a value says is parsed by json_parse, which also
 * checks it. Memory: none. */
#ifndef BASE_JSON_MEMBERS_H
#define BASE_JSON_MEMBERS_H

#include "base/arena.h"
#include "base/json.h"

struct json_members {
    struct text_view text;
    size_t position; /* after the last member: behind the closing brace */
    uint32_t count;  /* members so far */
    struct llcuda_error *error;
};

/* Byte ranges in the text; a string's quotes belong to its range. */
struct json_member {
    size_t key_begin;
    size_t key_end;
    size_t value_begin;
    size_t value_end;
};

/* Starts at the object whose brace is the first byte after white space from `begin` on. */
llcuda_status json_members_begin(struct json_members *members, struct text_view text, size_t begin,
                                 struct llcuda_error *error);

/* The next member; *more is false after the last one. BAD_FORMAT with the byte offset when the
 * punctuation between members is wrong or the text ends. */
llcuda_status json_members_next(struct json_members *members, struct json_member *member,
                                bool *more);

/* The string at text[begin..end): borrowed when it has no escapes, otherwise in `arena`.
 * BAD_FORMAT when there is no valid string. */
llcuda_status json_string_at(struct text_view text, size_t begin, size_t end, struct arena *arena,
                             struct text_view *out, struct llcuda_error *error);

/* The value at text[begin..end) as a document of at most `value_count_max` values and unique keys.
 * The text must outlive it. Offsets count from the start of the text. */
llcuda_status json_value_at(struct text_view text, size_t begin, size_t end,
                            uint32_t value_count_max, struct json_document **document,
                            struct llcuda_error *error);

#endif
