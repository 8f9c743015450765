/* Continues a text and prints the answer as it comes:
 *
 *     complete MODEL "What is 2+2?"
 */
#include <stdio.h>
#include <string.h>

#include <llcuda/llcuda.h>

static int fail(const char *what, const llcuda_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, llcuda_status_name(error->status), error->message);
    return 1;
}

static int print_answer(llcuda_request *request)
{
    const llcuda_event *event;
    llcuda_error error;
    do {
        if (llcuda_request_next(request, LLCUDA_FOREVER, &event, &error) != LLCUDA_OK) {
            return fail("reading", &error);
        }
        fwrite(event->text, 1, event->text_bytes, stdout);
        fflush(stdout);
    } while (event->kind != LLCUDA_EVENT_DONE);
    printf("\n");
    fprintf(stderr, "%u tokens, %s, first after %.1f ms, %.1f tokens/s\n",
            event->usage.completion_tokens, llcuda_finish_reason_name(event->finish_reason),
            event->timings.ttft_ms, event->timings.decode_tokens_per_second);
    return event->status == LLCUDA_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT\n", argv[0]);
        return 2;
    }
    llcuda_error error;
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = argv[1];
    llcuda_engine *engine;
    if (llcuda_engine_open(&options, &engine, &error) != LLCUDA_OK) {
        return fail("opening", &error);
    }
    llcuda_request_options request_options;
    llcuda_engine_request_defaults(engine, &request_options, sizeof request_options);
    request_options.prompt = argv[2];
    request_options.prompt_bytes = strlen(argv[2]);
    request_options.max_tokens = 64;
    llcuda_request *request;
    int result;
    if (llcuda_submit(engine, &request_options, &request, &error) == LLCUDA_OK) {
        result = print_answer(request);
        llcuda_request_release(request);
    } else {
        result = fail("submitting", &error);
    }
    llcuda_engine_close(engine);
    return result;
}
