/* Owns the rules of index files. The map is walked member by member and never held, only the names
 * of the shards are. Invariant: a shard name is a plain file name, so that no index can lead
 * outside of its folder. */
#include "format/hf_index.h"

#include <stdlib.h>

#include "base/json_members.h"
#include "base/limits.h"
#include "format/order.h"

#define FILE_NAME_BYTES_MAX 255u

static bool is_plain(struct text_view name)
{
    static const char suffix[] = ".safetensors";
    size_t tail = sizeof suffix - 1;
    if (name.length <= tail || name.length > FILE_NAME_BYTES_MAX || name.data[0] == '.' ||
        memcmp(name.data + name.length - tail, suffix, tail) != 0) {
        return false;
    }
    for (size_t i = 0; i < name.length; i++) {
        unsigned char c = (unsigned char)name.data[i];
        bool dots = c == '.' && name.data[i - 1] == '.'; /* the first byte is no dot */
        if (c < 0x20 || c == 0x7f || c == '/' || c == '\\' || dots) {
            return false;
        }
    }
    return true;
}

/* Where `name` is or belongs in the sorted list. */
static uint32_t lower_bound(const struct hf_index *index, struct text_view name)
{
    uint32_t low = 0;
    uint32_t high = index->file_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct text_view file = index->files[middle];
        size_t common = file.length < name.length ? file.length : name.length;
        int result = common ? memcmp(file.data, name.data, common) : 0;
        if (result < 0 || (result == 0 && file.length < name.length)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t hf_index_find_file(const struct hf_index *index, struct text_view name)
{
    uint32_t place = lower_bound(index, name);
    bool found = place < index->file_count && text_view_equal(index->files[place], name);
    return found ? place : index->file_count;
}

static llcuda_status add_file(struct hf_index *index, struct text_view name, size_t offset,
                              struct llcuda_error *error)
{
    if (!is_plain(name)) {
        return error_set_at(error, LLCUDA_BAD_FORMAT, offset,
                            "'%.*s' at byte %zu is no plain name of a .safetensors file",
                            TEXT_ARGUMENTS(name_clip(name)), offset);
    }
    uint32_t place = lower_bound(index, name);
    if (place < index->file_count && text_view_equal(index->files[place], name)) {
        return LLCUDA_OK;
    }
    if (index->file_count == LIMIT_SAFETENSORS_FILES) {
        return error_set_at(error, LLCUDA_LIMIT, offset,
                            "the index names more than %u files, at byte %zu",
                            LIMIT_SAFETENSORS_FILES, offset);
    }
    struct text_view copy = arena_copy_text(&index->names, name);
    if (!copy.data) {
        return error_no_memory(error, "a file name", name.length);
    }
    memmove(index->files + place + 1, index->files + place,
            (index->file_count - place) * sizeof *index->files);
    index->files[place] = copy;
    index->file_count++;
    return LLCUDA_OK;
}

/* One member of the map, both strings decoded into `scratch`. */
static llcuda_status read_pair(const struct hf_index *index, const struct json_member *member,
                               struct arena *scratch, struct text_view *name,
                               struct text_view *file, struct llcuda_error *error)
{
    llcuda_status status =
        json_string_at(index->text, member->key_begin, member->key_end, scratch, name, error);
    return status ? status
                  : json_string_at(index->text, member->value_begin, member->value_end, scratch,
                                   file, error);
}

static llcuda_status read_files(struct hf_index *index, struct llcuda_error *error)
{
    struct json_members members;
    struct json_member member;
    struct arena scratch;
    bool more = true;
    arena_init(&scratch, 0);
    llcuda_status status = json_members_begin(&members, index->text, index->map_begin, error);
    while (!status) {
        struct text_view name;
        struct text_view file;
        status = json_members_next(&members, &member, &more);
        if (status || !more) {
            break;
        }
        status = read_pair(index, &member, &scratch, &name, &file, error);
        if (!status) {
            status = add_file(index, file, member.value_begin, error);
        }
        arena_reset(&scratch);
    }
    arena_deinit(&scratch);
    return status;
}

/* Finds weight_map in the outer object, and that nothing follows the object. */
static llcuda_status find_map(struct hf_index *index, struct llcuda_error *error)
{
    struct json_members members;
    struct json_member member;
    bool more = true;
    llcuda_status status = json_members_begin(&members, index->text, 0, error);
    while (!status) {
        status = json_members_next(&members, &member, &more);
        if (status || !more) {
            break;
        }
        /* The name is compared as it is written: no writer escapes it. */
        struct text_view key =
            text_view_make(index->text.data + member.key_begin, member.key_end - member.key_begin);
        if (text_view_is(key, "\"weight_map\"")) {
            if (index->map_begin) {
                return error_set_at(error, LLCUDA_BAD_FORMAT, member.key_begin,
                                    "the index has weight_map twice, again at byte %zu",
                                    member.key_begin);
            }
            index->map_begin = member.value_begin;
        }
    }
    if (status) {
        return status;
    }
    if (!index->map_begin) {
        return error_set(error, LLCUDA_BAD_FORMAT, "the index has no weight_map");
    }
    for (size_t i = members.position; i < index->text.length; i++) {
        if (!strchr(" \t\r\n", index->text.data[i]) || !index->text.data[i]) {
            return error_set_at(error, LLCUDA_BAD_FORMAT, i,
                                "the index goes on after its end at "
                                "byte %zu",
                                i);
        }
    }
    return LLCUDA_OK;
}

llcuda_status hf_index_init(struct hf_index *index, struct text_view text,
                            struct llcuda_error *error)
{
    *index = (struct hf_index){.text = text};
    arena_init(&index->names, 0);
    llcuda_status status = find_map(index, error);
    if (status) {
        return status;
    }
    index->files = calloc(LIMIT_SAFETENSORS_FILES, sizeof *index->files);
    if (!index->files) {
        return error_no_memory(error, "file names", LIMIT_SAFETENSORS_FILES * sizeof *index->files);
    }
    status = read_files(index, error);
    if (!status && index->file_count == 0) {
        status = error_set_at(error, LLCUDA_BAD_FORMAT, index->map_begin,
                              "the weight_map of the index is empty");
    }
    return status;
}

void hf_index_deinit(struct hf_index *index)
{
    free(index->files);
    arena_deinit(&index->names);
    *index = (struct hf_index){0};
}

llcuda_status hf_index_each(const struct hf_index *index,
                            llcuda_status (*visit)(void *context, struct text_view name,
                                                   uint32_t file, uint64_t offset,
                                                   struct llcuda_error *error),
                            void *context, struct llcuda_error *error)
{
    struct json_members members;
    struct json_member member;
    struct arena scratch;
    bool more = true;
    arena_init(&scratch, 0);
    llcuda_status status = json_members_begin(&members, index->text, index->map_begin, error);
    while (!status) {
        struct text_view name;
        struct text_view file;
        status = json_members_next(&members, &member, &more);
        if (status || !more) {
            break;
        }
        status = read_pair(index, &member, &scratch, &name, &file, error);
        if (!status) {
            status = visit(context, name, hf_index_find_file(index, file), member.key_begin, error);
        }
        arena_reset(&scratch);
    }
    arena_deinit(&scratch);
    return status;
}
