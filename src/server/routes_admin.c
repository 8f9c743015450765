/* Owns the routes of administration: the models' states, and changing them by name. They need a key
 * of admin scope, always. */
#include "server/openai_internal.h"
#include "server/routes.h"

static void write_state(struct json_writer *writer, const struct model_facts *facts)
{
    json_begin_object(writer);
    json_key(writer, "name");
    json_write_string(writer, facts->name);
    json_key(writer, "state");
    json_write_string(writer, model_state_name(facts->state));
    json_key(writer, "requests");
    json_write_unsigned(writer, facts->users);
    json_key(writer, "memory_bytes");
    json_write_unsigned(writer, facts->memory_bytes);
    json_key(writer, "loaded_bytes");
    json_write_unsigned(writer, facts->done_bytes);
    json_key(writer, "total_bytes");
    json_write_unsigned(writer, facts->total_bytes);
    json_key(writer, "message");
    json_write_string(writer, facts->message);
    json_end_object(writer);
}

void route_admin_models(struct call *call)
{
    struct buffer body = {0};
    struct json_writer writer;
    struct model_facts facts;
    json_writer_init(&writer, &body, 0);
    json_begin_object(&writer);
    json_key(&writer, "models");
    json_begin_array(&writer);
    for (uint32_t i = 0; model_set_describe(call->server->models, i, &facts); i++) {
        write_state(&writer, &facts);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    respond_written(call, 200, &body);
}

/* {"model": NAME}: 202, since it happens in the background. */
static void ask(struct call *call, enum model_wish wish)
{
    struct api_error error;
    struct openai_request request;
    bool good = openai_request_open(&request, OPENAI_CHAT, call->request->body, &error);
    if (good && request.model.length == 0) {
        good = api_error_set(&error, 400, "missing_required_parameter", "model",
                             "the field model is required");
    }
    if (good && model_set_ask(call->server->models, request.model, wish, &error)) {
        call_respond(call, 202, "application/json", text_view_of("{\"accepted\":true}"));
    } else {
        call_fail(call, &error);
    }
    openai_request_deinit(&request);
}

void route_admin_load(struct call *call)
{
    ask(call, MODEL_WISH_LOAD);
}

void route_admin_sleep(struct call *call)
{
    ask(call, MODEL_WISH_SLEEP);
}

void route_admin_unload(struct call *call)
{
    ask(call, MODEL_WISH_UNLOAD);
}
