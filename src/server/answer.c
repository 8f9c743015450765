/* Owns answers as every route gives them: request id, trace, errors, and the end. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/random.h"
#include "server/server_internal.h"

void server_make_id(struct server *server, char out[25])
{
    uint64_t count = atomic_fetch_add(&server->id_count, 1);
    uint64_t high = random_mix(server->id_seed + count);
    uint64_t low = random_mix(high ^ server->id_seed);
    snprintf(out, 25, "%016llx%08x", (unsigned long long)high, (unsigned)(low & 0xffffffff));
}

struct text_view call_headers(struct call *call)
{
    buffer_printf(&call->headers, "X-Request-Id: %s\r\n", call->request_id);
    if (call->trace[0]) {
        buffer_printf(&call->headers, "Traceparent: %s\r\n", call->trace);
    }
    buffer_append_text(&call->headers, "X-Content-Type-Options: nosniff\r\n");
    return buffer_view(&call->headers);
}

void call_respond(struct call *call, int status, const char *content_type, struct text_view body)
{
    uint64_t taken_ns = clock_now_ns() - http_exchange_begin_ns(call->exchange);
    call->status = status;
    buffer_printf(&call->headers, "Openai-Processing-Ms: %llu\r\n",
                  (unsigned long long)(taken_ns / 1000000));
    call_settle(call, true);
    http_exchange_respond(call->exchange, status, content_type, call_headers(call), body);
}

void call_respond_json(struct call *call, int status, struct buffer *body)
{
    if (body->failed) {
        struct api_error error;
        api_error_from(&error, LLCUDA_OUT_OF_MEMORY, NULL);
        call_fail(call, &error);
        return;
    }
    call_respond(call, status, "application/json", buffer_view(body));
}

void call_fail(struct call *call, const struct api_error *error)
{
    struct buffer body = {0};
    struct json_writer writer;
    call->error_code = error->code;
    if (error->status == 429 || error->status == 503) {
        buffer_printf(&call->headers, "Retry-After: %u\r\n",
                      call->retry_after_s ? call->retry_after_s : 1);
    } else if (error->status == 401) {
        buffer_append_text(&call->headers, "WWW-Authenticate: Bearer\r\n");
    }
    json_writer_init(&writer, &body, 0);
    api_error_write(error, &writer);
    call_respond(call, error->status, "application/json", buffer_view(&body));
    buffer_deinit(&body);
}
