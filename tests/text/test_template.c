/* Chat templates against jinja2's answers: our own cases (data/template_cases.json, written by
 * make_templates.py), the published templates of the oracle folder, and the promises of the header.
 */
#include "support/test_support.h"

#include <pthread.h>

#include "base/file.h"
#include "base/json.h"
#include "text/template.h"

static struct json_document *read_json(const char *path, struct buffer *contents)
{
    struct llcuda_error error;
    struct json_document *document = NULL;
    assert_ok(file_read_all(path, 64u << 20, contents, &error), error);
    assert_ok(json_parse(buffer_view(contents), NULL, &document, &error), error);
    return document;
}

static const struct json_value *element(const struct json_value *array, int64_t index)
{
    JSON_EACH(value, array)
    {
        if (index-- == 0) {
            return value;
        }
    }
    fail_msg("an index of the cases file is out of range");
    return NULL;
}

/* A member that is either the thing itself or its place in a table. */
static const struct json_value *looked_up(const struct json_value *value,
                                          const struct json_value *table)
{
    int64_t index;
    if (!value) {
        return element(table, 0);
    }
    return json_integer(value, 0, 1 << 20, &index) ? element(table, index) : value;
}

struct outcome {
    llcuda_status status;
    bool loaded;
    struct llcuda_error error;
    struct buffer text;
};

static struct outcome run(struct text_view source, const struct json_value *context, int64_t now)
{
    struct outcome outcome = {.status = LLCUDA_OK};
    struct template *template;
    struct template_options options = {.now_unix = now};
    outcome.status = template_parse(source, &template, &outcome.error);
    outcome.loaded = outcome.status == LLCUDA_OK;
    if (outcome.loaded) {
        outcome.status =
            template_render(template, context, &options, &outcome.text, &outcome.error);
        template_destroy(template);
    }
    return outcome;
}

static void check_text(const char *what, struct text_view source, const struct outcome *outcome,
                       struct text_view expected)
{
    if (outcome->status) {
        fail_msg("%s: %.300s: %s: %s", what, source.data, llcuda_status_name(outcome->status),
                 outcome->error.message);
    }
    if (!text_view_equal(buffer_view(&outcome->text), expected)) {
        fail_msg("%s: %.300s\nexpected: %.*s\nrendered: %s", what, source.data,
                 TEXT_ARGUMENTS(expected), buffer_text(&outcome->text));
    }
}

static void check_case(const struct json_value *root, const struct json_value *entry)
{
    int64_t now;
    assert_true(json_integer(json_member(root, "now"), 0, INT64_MAX, &now));
    struct text_view source =
        json_text(looked_up(json_member(entry, "template"), json_member(root, "templates")));
    const struct json_value *context =
        looked_up(json_member(entry, "context"), json_member(root, "contexts"));
    struct outcome outcome = run(source, context, now);
    const struct json_value *expected = json_member(entry, "expected");
    const struct json_value *raised = json_member(entry, "raised");
    const struct json_value *refused = json_member(entry, "refused");
    if (expected) {
        check_text("case", source, &outcome, json_text(expected));
    } else if (outcome.status == LLCUDA_OK) {
        fail_msg("not refused: %.300s: %s", source.data, buffer_text(&outcome.text));
    } else if (raised) {
        assert_int_equal(outcome.status, LLCUDA_REFUSED);
        assert_true(text_view_equal(text_view_of(outcome.error.message), json_text(raised)));
    } else {
        bool at_load = text_view_is(json_text(refused), "load");
        if (at_load && outcome.loaded) {
            fail_msg("not refused when loaded: %.300s", source.data);
        }
        assert_true(outcome.status == LLCUDA_BAD_FORMAT || outcome.status == LLCUDA_UNSUPPORTED ||
                    outcome.status == LLCUDA_LIMIT);
        assert_non_null(strstr(outcome.error.message, "template line "));
        assert_true(outcome.error.offset <= source.length);
    }
    buffer_deinit(&outcome.text);
}

static void cases_render_as_jinja2_renders_them(void **state)
{
    (void)state;
    struct buffer contents = {0};
    char *path = test_source_path("tests/text/data/template_cases.json");
    struct json_document *document = read_json(path, &contents);
    const struct json_value *root = json_root(document);
    int count = 0;
    JSON_EACH(entry, json_member(root, "cases"))
    {
        check_case(root, entry);
        count++;
    }
    assert_true(count > 2000);
    json_destroy(document);
    buffer_deinit(&contents);
    free(path);
}

static void check_row(const char *folder, const struct json_value *row)
{
    char name[256];
    struct buffer source = {0};
    struct llcuda_error error;
    int64_t now;
    snprintf(name, sizeof name, "%.*s", TEXT_ARGUMENTS(json_text(json_member(row, "template"))));
    char *path = file_path_join(folder, name);
    assert_ok(file_read_all(path, 1 << 20, &source, &error), error);
    assert_true(json_integer(json_member(row, "now"), 0, INT64_MAX, &now));
    struct outcome outcome = run(buffer_view(&source), row, now);
    const struct json_value *refused = json_member(row, "error");
    if (refused) {
        struct text_view message = json_text(refused);
        static const char raised[] = "TemplateError: ";
        assert_int_not_equal(outcome.status, LLCUDA_OK);
        if (message.length > strlen(raised) && memcmp(message.data, raised, strlen(raised)) == 0) {
            message.data += strlen(raised);
            message.length -= strlen(raised);
            assert_int_equal(outcome.status, LLCUDA_REFUSED);
            assert_true(text_view_equal(text_view_of(outcome.error.message), message));
        }
    } else {
        check_text(name, buffer_view(&source), &outcome, json_text(json_member(row, "expected")));
    }
    buffer_deinit(&outcome.text);
    buffer_deinit(&source);
    free(path);
}

static void published_templates_render_as_expected(void **state)
{
    (void)state;
    char *path = test_oracle_path("templates/expected.json");
    char *folder = test_oracle_path("templates");
    if (!path || !folder) {
        free(path);
        free(folder);
        skip();
    }
    struct buffer contents = {0};
    struct json_document *document = read_json(path, &contents);
    assert_true(json_root(document)->count > 0);
    JSON_EACH(row, json_root(document))
    {
        check_row(folder, row);
    }
    json_destroy(document);
    buffer_deinit(&contents);
    free(folder);
    free(path);
}

static void errors_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        llcuda_status status;
        uint64_t offset;
        const char *message;
    } rows[] = {
        {"a\nb {{ x | nope }}", LLCUDA_UNSUPPORTED, 11, "template line 2, column 10: "},
        {"\xC3\xA9{% include 'x' %}", LLCUDA_UNSUPPORTED, 5, "template line 1, column 5: "},
        {"a\r\nb\r{{ 1 + }}", LLCUDA_BAD_FORMAT, 12, "template line 3, column 8: "},
        {"{% for x in y recursive %}{% endfor %}", LLCUDA_UNSUPPORTED, 14, "column 15: "},
        {"{% if x %}\n\n", LLCUDA_BAD_FORMAT, 11, "template line 2, column 1: "},
        {"\n{{ 1 / 0 }}", LLCUDA_BAD_FORMAT, 6, "template line 2, column 6: division by zero"},
        {"{{ none +\n 1 }}", LLCUDA_BAD_FORMAT, 8, "template line 1, column 9: "},
        {"x\xFFy", LLCUDA_BAD_FORMAT, 1, "not valid UTF-8"},
        {"{{ 99999999999999999999 }}", LLCUDA_BAD_FORMAT, 3, "64 bits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome = run(text_view_of(rows[i].source), NULL, 0);
        assert_int_equal(outcome.status, rows[i].status);
        if (!strstr(outcome.error.message, rows[i].message)) {
            fail_msg("%s: %s", rows[i].source, outcome.error.message);
        }
        assert_int_equal(outcome.error.offset, rows[i].offset);
        buffer_deinit(&outcome.text);
    }
}

static void output_is_appended_or_left_alone(void **state)
{
    (void)state;
    struct llcuda_error error;
    struct template *good;
    struct template *bad;
    struct buffer out = {0};
    struct json_document *document;
    assert_ok(json_parse(text_view_of("{\"x\": 1}"), NULL, &document, &error), error);
    assert_ok(template_parse(text_view_of("b{{ x }}"), &good, &error), error);
    assert_ok(template_parse(text_view_of("lost{{ x.y.z }}"), &bad, &error), error);
    buffer_append_text(&out, "a");
    assert_ok(template_render(good, json_root(document), NULL, &out, &error), error);
    assert_string_equal(buffer_text(&out), "ab1");
    assert_int_equal(template_render(bad, json_root(document), NULL, &out, &error),
                     LLCUDA_BAD_FORMAT);
    assert_string_equal(buffer_text(&out), "ab1");
    assert_ok(template_render(good, NULL, NULL, &out, &error), error);
    assert_string_equal(buffer_text(&out), "ab1b");
    assert_int_equal(
        template_render(good, json_member(json_root(document), "x"), NULL, &out, &error),
        LLCUDA_INVALID_ARGUMENT);
    assert_int_equal(template_render(bad, NULL, NULL, &out, NULL), LLCUDA_BAD_FORMAT);
    assert_true(template_mentions(good, text_view_of("x")));
    assert_false(template_mentions(good, text_view_of("b")));
    template_destroy(good);
    template_destroy(bad);
    template_destroy(NULL);
    json_destroy(document);
    buffer_deinit(&out);
}

/* --- many threads, one template --- */

struct worker {
    const struct template *template;
    const struct json_value *context;
    struct buffer text;
    llcuda_status status;
};

static void *render_often(void *argument)
{
    struct worker *worker = argument;
    for (int i = 0; i < 50 && !worker->status; i++) {
        buffer_clear(&worker->text);
        worker->status =
            template_render(worker->template, worker->context, NULL, &worker->text, NULL);
    }
    return NULL;
}

static void many_threads_render_one_template(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(x, y=2) %}{{ x ~ 'é'|upper ~ y }}{% endmacro %}"
        "{% set ns = namespace(n=0) %}{% for i in list|sort %}{% set ns.n = ns.n + i %}"
        "{{ m(i) }}{{ {'k': i}['k'] }}{% endfor %}{{ ns.n }}{{ list|tojson }}";
    struct llcuda_error error;
    struct template *template;
    struct json_document *document;
    struct worker workers[4] = {{0}};
    pthread_t threads[4];
    assert_ok(json_parse(text_view_of("{\"list\": [3, 1, 2]}"), NULL, &document, &error), error);
    assert_ok(template_parse(text_view_of(source), &template, &error), error);
    for (int i = 0; i < 4; i++) {
        workers[i].template = template;
        workers[i].context = json_root(document);
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].status, LLCUDA_OK);
        assert_string_equal(buffer_text(&workers[i].text), "1É212É223É236[3, 1, 2]");
        buffer_deinit(&workers[i].text);
    }
    template_destroy(template);
    json_destroy(document);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(cases_render_as_jinja2_renders_them),
    cmocka_unit_test(published_templates_render_as_expected),
    cmocka_unit_test(errors_say_where),
    cmocka_unit_test(output_is_appended_or_left_alone),
    cmocka_unit_test(many_threads_render_one_template),
};

TEST_MAIN(tests)
