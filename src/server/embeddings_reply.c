/* Owns the JSON of /v1/embeddings. There is no stream and no text: only `whole` is ever called. */
#include <openssl/evp.h>
#include <stdlib.h>

#include "server/generation.h"

static void begin(struct generation *generation)
{
    (void)generation;
}

/* Little-endian floats, as OpenAI's clients read them; so are the machine's. */
static void write_base64(const float *vector, uint32_t length, struct buffer *out)
{
    size_t bytes = length * sizeof *vector;
    size_t room = (bytes + 2) / 3 * 4 + 1;
    buffer_append_byte(out, '"');
    if (buffer_reserve(out, room)) {
        int written = EVP_EncodeBlock((unsigned char *)out->data + out->length,
                                      (const unsigned char *)vector, (int)bytes);
        out->length += (size_t)written;
        out->data[out->length] = 0;
    }
    buffer_append_byte(out, '"');
}

static void write_numbers(const float *vector, uint32_t length, struct buffer *out)
{
    buffer_append_byte(out, '[');
    for (uint32_t i = 0; i < length; i++) {
        buffer_printf(out, i ? ",%.9g" : "%.9g", (double)vector[i]);
    }
    buffer_append_byte(out, ']');
}

static void whole(struct generation *generation)
{
    struct buffer *out = &generation->piece;
    buffer_append_text(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < generation->request_count; i++) {
        buffer_printf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "",
                      i);
        if (generation->request.base64) {
            write_base64(generation->vectors[i], generation->vector_length, out);
        } else {
            write_numbers(generation->vectors[i], generation->vector_length, out);
        }
        buffer_append_byte(out, '}');
    }
    buffer_append_text(out, "],\"model\":");
    json_quote(out, text_view_of(generation->model->name));
    buffer_printf(out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}",
                  generation->usage.prompt_tokens, generation->usage.prompt_tokens);
}

const struct reply_format reply_embeddings = {.id_prefix = "emb_", .begin = begin, .whole = whole};
