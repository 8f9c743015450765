/* Asks every line of standard input at once, and prints the answers in the order of the lines:
 *
 *     printf 'What is 1+1?\nWhat is 2+2?\n' | many MODEL
 *
 * The engine runs all of them in the same steps; each gets the tokens that it would get alone. */
#include <stdio.h>
#include <string.h>

#include <llcuda/llcuda.h>

#define LINES_MAX 64

static llcuda_request *ask(llcuda_engine *engine, const char *line, size_t bytes)
{
    llcuda_request_options options;
    llcuda_engine_request_defaults(engine, &options, sizeof options);
    options.prompt = line;
    options.prompt_bytes = bytes;
    options.max_tokens = 32;
    llcuda_request *request;
    llcuda_error error;
    if (llcuda_submit(engine, &options, &request, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        return NULL;
    }
    return request;
}

static void print_answer(llcuda_request *request)
{
    const llcuda_event *event;
    while (llcuda_request_next(request, LLCUDA_FOREVER, &event, NULL) == LLCUDA_OK &&
           event->kind != LLCUDA_EVENT_DONE) {
        for (size_t i = 0; i < event->text_bytes; i++) {
            putchar(event->text[i] == '\n' ? ' ' : event->text[i]);
        }
    }
    putchar('\n');
    llcuda_request_release(request);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODEL < LINES\n", argv[0]);
        return 2;
    }
    llcuda_error error;
    llcuda_engine_options options;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = argv[1];
    llcuda_engine *engine;
    if (llcuda_engine_open(&options, &engine, &error) != LLCUDA_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    llcuda_request *requests[LINES_MAX];
    size_t count = 0;
    char line[4096];
    while (count < LINES_MAX && fgets(line, sizeof line, stdin)) {
        llcuda_request *request = ask(engine, line, strcspn(line, "\n"));
        if (request) {
            requests[count++] = request;
        }
    }
    for (size_t i = 0; i < count; i++) {
        print_answer(requests[i]);
    }
    llcuda_stats stats = {.size = sizeof stats};
    llcuda_engine_get_stats(engine, &stats);
    fprintf(stderr, "%zu requests in %llu steps of up to %llu rows\n", count,
            (unsigned long long)stats.steps, (unsigned long long)stats.step_rows_max);
    llcuda_engine_close(engine);
    return 0;
}
