/* Times chat templates: loading, and rendering a conversation of ten messages with two tools. Uses
 * the templates of data/template_cases.json, or the files that are named. One thread, processor
 * time.
 *
 *   bench_template [--seconds S] [template.jinja …] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "support/test_support.h"
#include "text/template.h"

static const char chat_begin[] =
    "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_generation_prompt\": true, \"tools\": "
    "[{\"type\": \"function\", \"function\": {\"name\": \"find_train\", \"description\": \"Trains "
    "between two stations\", \"parameters\": {\"type\": \"object\", \"properties\": {\"from\": "
    "{\"type\": \"string\", \"description\": \"First station\"}, \"to\": {\"type\": \"string\"}}, "
    "\"required\": [\"from\"]}}}, {\"type\": \"function\", \"function\": {\"name\": \"ping\", "
    "\"description\": \"Nothing\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}}], "
    "\"messages\": [{\"role\": \"system\", \"content\": \"Answer in one sentence.\"}";

/* Processor time, which other programs on the machine disturb less than the clock on the wall. */
static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Nine messages after the system's, some 400 bytes each. */
static void make_chat(struct buffer *out)
{
    buffer_append_text(out, chat_begin);
    for (int i = 0; i < 9; i++) {
        buffer_printf(out, ", {\"role\": \"%s\", \"content\": \"", i % 2 ? "assistant" : "user");
        for (int k = 0; k < 8; k++) {
            buffer_append_text(out, "Which of the two trains to Basel leaves first, please? ");
        }
        buffer_append_text(out, "\"}");
    }
    buffer_append_text(out, "]}");
}

static void measure(const char *name, struct text_view source, const struct json_value *chat,
                    double seconds)
{
    struct llcuda_error error;
    struct template *template = NULL;
    struct template_options options = {.now_unix = 1735787045};
    struct buffer text = {0};
    uint64_t begin = now_ns();
    uint64_t loads = 0;
    llcuda_status status = LLCUDA_OK;
    do {
        template_destroy(template);
        status = template_parse(source, &template, &error);
        loads++;
    } while (!status && clock_ms(now_ns() - begin) < 100 * seconds);
    double load_us = clock_ms(now_ns() - begin) * 1e3 / (double)loads;
    uint64_t renderings = 0;
    begin = now_ns();
    while (!status && clock_ms(now_ns() - begin) < 1000 * seconds) {
        buffer_clear(&text);
        status = template_render(template, chat, &options, &text, &error);
        renderings++;
    }
    double render_us = clock_ms(now_ns() - begin) * 1e3 / (double)(renderings + !renderings);
    if (status) {
        printf("%-44.44s %s\n", name, error.message);
    } else {
        printf("%-44.44s load %7.1f us   render %7.1f us   %zu bytes\n", name, load_us, render_us,
               text.length);
    }
    template_destroy(template);
    buffer_deinit(&text);
}

static int measure_file(const char *path, const struct json_value *chat, double seconds)
{
    struct buffer source = {0};
    struct llcuda_error error;
    if (file_read_all(path, 1 << 20, &source, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    const char *slash = strrchr(path, '/');
    measure(slash ? slash + 1 : path, buffer_view(&source), chat, seconds);
    buffer_deinit(&source);
    return 0;
}

static int measure_cases(const struct json_value *chat, double seconds)
{
    struct buffer contents = {0};
    struct llcuda_error error;
    struct json_document *cases = NULL;
    char *path = test_source_path("tests/text/data/template_cases.json");
    int failed = file_read_all(path, 64u << 20, &contents, &error) != LLCUDA_OK ||
                 json_parse(buffer_view(&contents), NULL, &cases, &error) != LLCUDA_OK;
    if (failed) {
        fprintf(stderr, "%s\n", error.message);
    } else {
        int number = 0;
        JSON_EACH(source, json_member(json_root(cases), "templates"))
        {
            char name[64];
            snprintf(name, sizeof name, "own chat template %d", ++number);
            measure(name, json_text(source), chat, seconds);
        }
        json_destroy(cases);
    }
    buffer_deinit(&contents);
    free(path);
    return failed;
}

int main(int argument_count, char **arguments)
{
    double seconds = 1;
    int first = 1;
    if (argument_count > 2 && strcmp(arguments[1], "--seconds") == 0) {
        seconds = strtod(arguments[2], NULL);
        first = 3;
    }
    struct buffer json = {0};
    struct json_document *chat = NULL;
    struct llcuda_error error;
    make_chat(&json);
    if (json_parse(buffer_view(&json), NULL, &chat, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    int failed = 0;
    if (first == argument_count) {
        failed = measure_cases(json_root(chat), seconds);
    }
    for (int i = first; i < argument_count; i++) {
        failed |= measure_file(arguments[i], json_root(chat), seconds);
    }
    json_destroy(chat);
    buffer_deinit(&json);
    return failed;
}
