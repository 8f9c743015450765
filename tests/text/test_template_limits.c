/* Hostile templates: every budget ends in an error of that rendering, never in a crash or a hang,
 * and so does every allocation that fails. */
#include "support/test_support.h"

#include "base/json.h"
#include "base/limits.h"
#include "text/template.h"

/* --- allocations that fail: the linker sends malloc and its like here --- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static long allocations_left = -1; /* -1: all succeed */

static bool allocation_fails(void)
{
    if (allocations_left < 0) {
        return false;
    }
    if (allocations_left == 0) {
        return true;
    }
    allocations_left--;
    return false;
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(memory, size);
}

/* --- helpers --- */

static llcuda_status render(struct text_view source, struct buffer *out, struct llcuda_error *error)
{
    struct template *template;
    llcuda_status status = template_parse(source, &template, error);
    if (!status) {
        status = template_render(template, NULL, NULL, out, error);
        template_destroy(template);
    }
    return status;
}

static void assert_limit(const char *source)
{
    struct buffer out = {0};
    struct llcuda_error error = {0};
    llcuda_status status = render(text_view_of(source), &out, &error);
    if (status != LLCUDA_LIMIT) {
        fail_msg("%.200s: %s: %s", source, llcuda_status_name(status), error.message);
    }
    assert_int_equal(out.length, 0);
    buffer_deinit(&out);
}

/* before × count + middle + after × count */
static struct buffer repeated(const char *before, const char *middle, const char *after,
                              size_t count)
{
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&text, before);
    }
    buffer_append_text(&text, middle);
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&text, after);
    }
    assert_false(text.failed);
    return text;
}

static void nesting_is_bounded_when_loaded(void **state)
{
    (void)state;
    static const struct {
        const char *open;
        const char *before;
        const char *middle;
        const char *after;
        const char *close;
    } rows[] = {
        {"{{ ", "(", "1", ")", " }}"},
        {"{{ ", "[", "", "]", " }}"},
        {"{{ ", "{1:", "1", "}", " }}"},
        {"{{ ", "not ", "1", "", " }}"},
        {"{{ ", "-", "1", "", " }}"},
        {"{{ ", "- ", "1", "", " }}"},
        {"{{ ", "1 if 1 else ", "1", "", " }}"},
        {"{{ ", "a[", "1", "]", " }}"},
        {"{{ ", "f(", "1", ")", " }}"},
        {"{{ ", "1|default(", "1", ")", " }}"},
        {"", "{% if 1 %}", "x", "{% endif %}", ""},
        {"", "{% for x in y %}", "x", "{% endfor %}", ""},
        {"", "{% set x %}", "x", "{% endset %}", ""},
        {"", "{% macro f() %}", "x", "{% endmacro %}", ""},
        {"", "{% with %}", "x", "{% endwith %}", ""},
        {"", "{% filter upper %}", "x", "{% endfilter %}", ""},
        {"", "{% if 1 %}x{% else %}", "x", "{% endif %}", ""},
        {"{% set ", "(", "a", ")", " = 1 %}"},
        {"{{ ", "(", "", "", ""},
        {"", "{% if 1 %}", "", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        /* as deep as the template may be long */
        size_t count = i < 10 ? 60000 : 30000;
        struct buffer inner = repeated(rows[i].before, rows[i].middle, rows[i].after, count);
        struct buffer source = {0};
        buffer_append_text(&source, rows[i].open);
        buffer_append_view(&source, buffer_view(&inner));
        buffer_append_text(&source, rows[i].close);
        assert_limit(buffer_text(&source));
        buffer_deinit(&inner);
        buffer_deinit(&source);
    }
}

static void assert_renders(const char *source, const char *expected)
{
    struct buffer out = {0};
    struct llcuda_error error = {0};
    assert_ok(render(text_view_of(source), &out, &error), error);
    assert_string_equal(buffer_text(&out), expected);
    buffer_deinit(&out);
}

/* Long is not deep: chains of one precedence and of elif cost no nesting. */
static void long_chains_are_fine(void **state)
{
    (void)state;
    struct buffer text = repeated("1 + ", "1", "", 20000);
    struct buffer source = {0};
    buffer_printf(&source, "{{ %s }}", buffer_text(&text));
    assert_renders(buffer_text(&source), "20001");
    buffer_deinit(&text);
    buffer_clear(&source);

    text = repeated("", "", "{% elif 0 %}b", 20000);
    buffer_printf(&source, "{%% if 0 %%}a%s{%% else %%}c{%% endif %%}", buffer_text(&text));
    assert_renders(buffer_text(&source), "c");
    buffer_deinit(&text);
    buffer_clear(&source);

    text = repeated("", "", "|string", 20000);
    buffer_printf(&source, "{{ 'x'%s }}", buffer_text(&text));
    assert_renders(buffer_text(&source), "x");
    buffer_deinit(&text);
    buffer_deinit(&source);
}

static void work_is_bounded(void **state)
{
    (void)state;
    static const char *const sources[] = {
        /* steps */
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' }}{% endfor %}{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{{ 'b' in s }}{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{% if s == s ~ 'x' %}{% endif %}"
        "{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{{ s.count('b') }}{% endfor %}",
        "{% set s = ('a' * 10000000,) %}{% for a in range(100000) %}{% if {s: 1} == 0 %}"
        "{% endif %}{% endfor %}",
        "{% set s = 'é' * 5000000 %}{% for a in range(100000) %}{{ s[4000000] }}{% endfor %}",
        "{% set s = 'a' * 20000000 %}{{ s.rfind('b' ~ s[:9000000]) }}",
        "{% set s = 'a' * 20000000 %}{{ s.rsplit('b' ~ s[:9000000]) }}",
        "{% set s = 'a' * 20000000 %}{{ s.strip('b' * 10000000 ~ 'a') }}",
        "{% set s = 'a' * 20000000 %}{{ s|trim('b' * 10000000 ~ 'a') }}",
        "{% set s = 'a' * 10000000 ~ 'b' %}{% set t = 'a' * 10000000 ~ 'c' %}"
        "{% for a in range(100000) %}{% if s == t or s is sameas t %}{% endif %}{% endfor %}",
        /* output */
        "{{ 'x' * 100000000 }}",
        "{{ 'x' * 9000000000000000000 }}",
        "{% set s = 'x' * 1000000 %}{% for i in range(1000) %}{{ s }}{% endfor %}",
        "{{ '%1000000s' * 1000 % ((1,) * 1000) }}",
        "{{ 'x'.center(999999999) }}",
        "{{ 'x'.ljust(9000000000000000000) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000) }}",
        "{{ ('\\n' * 100000)|indent(100000, true, true) }}",
        "{{ ','.join(['x' * 1000000] * 1000) }}",
        "{{ [['x' * 1000000] * 1000]|tojson }}",
        "{{ [1]|tojson(indent=100000000) }}",
        /* memory */
        "{{ [1] * 100000000 }}",
        "{{ [0] * 9000000000000000000 }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(100) %}"
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
        /* depth */
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{% for i in [1] %}{% if 1 %}{{ f([x]) }}{% endif %}{% endfor %}"
        "{% endmacro %}{{ f(1) }}",
        "{% macro f() %}{{ caller() }}{% call f() %}{{ caller }}{% endcall %}{% endmacro %}"
        "{% call f() %}x{% endcall %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}"
        "{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}"
        "{% endfor %}{{ ns.x|tojson }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}"
        "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}"
        "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x < ns.y }}",
        "{% set ns = namespace(x=()) %}{% for i in range(9999) %}{% set ns.x = (ns.x,) %}"
        "{% endfor %}{{ {ns.x: 1} }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}"
        "{% set ns.x = ns.x|map('string') %}{% endfor %}{{ ns.x|list }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
        /* ranges */
        "{{ range(100001) }}",
        "{{ range(-9223372036854775807, 9223372036854775807) }}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        assert_limit(sources[i]);
    }
}

static void templates_have_a_largest_size(void **state)
{
    (void)state;
    struct buffer text = repeated("x", "", "", LIMIT_TEMPLATE_BYTES + 1);
    assert_limit(buffer_text(&text));
    text.data[LIMIT_TEMPLATE_BYTES] = 0;
    assert_renders(buffer_text(&text), buffer_text(&text));
    buffer_deinit(&text);
    struct buffer source = {0};
    for (int i = 0; i < 40000; i++) {
        buffer_printf(&source, "{{ v%d }}", i);
    }
    assert_limit(buffer_text(&source));
    buffer_deinit(&source);
}

/* Building a long text piece by piece takes time and memory in proportion to it. */
static void accumulation_is_linear(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct llcuda_error error = {0};
    static const char source[] =
        "{% set ns = namespace(s='') %}{% set piece = 'abcdefgh' * 64 %}"
        "{% for i in range(50000) %}{% set ns.s = ns.s + piece %}{% endfor %}{{ ns.s|length }}";
    assert_ok(render(text_view_of(source), &out, &error), error);
    assert_string_equal(buffer_text(&out), "25600000");
    buffer_deinit(&out);
    /* Two texts that grow from one beginning do not see each other. */
    assert_renders("{% set a = 'x' * 100 + 'y' %}{% set b = a + 'b' %}{% set c = a + 'c' %}"
                   "{{ b[-2:] }}{{ c[-2:] }}{{ a[-2:] }}{{ (b + 'q')[-3:] }}{{ (c ~ 'r')[-3:] }}",
                   "ybycxyybqycr");
}

static void every_failed_allocation_is_an_error(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(x, y='z') %}<{{ x }}{{ y }}{{ varargs }}{{ kwargs }}>{% endmacro %}"
        "{% set ns = namespace(a=1) %}{% set big = 'abc' * 40000 %}{% set l = range(9000)|list %}"
        "{% for m in messages %}{{ m.content ~ 'x' }}{{ m|tojson(indent=2) }}"
        "{{ '%5.2f' % 2.5 }}{{ '{:>9}'.format(m.role) }}{{ l[::-1]|length }}{{ m('a', 1, k=2) "
        "if false }}{% endfor %}{{ m('a', 'b', 'c', q=1) }}{{ l|sort|first }}"
        "{% set d = dict(l[:100]|map('string')|list|batch(2)) %}{{ d|length }}{{ d|dictsort|first "
        "}}"
        "{% set t %}{{ big|upper }}{% endset %}{{ t|length }}{{ 'a' 'b' }}{{ '\\u00e9' }}";
    static const char json[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}";
    struct llcuda_error error;
    struct json_document *document;
    assert_ok(json_parse(text_view_of(json), NULL, &document, &error), error);
    long failures = 0;
    for (long n = 0;; n++) {
        struct template *template = NULL;
        struct buffer out = {0};
        allocations_left = n;
        llcuda_status status = template_parse(text_view_of(source), &template, &error);
        if (!status) {
            status = template_render(template, json_root(document), NULL, &out, &error);
        }
        allocations_left = -1;
        template_destroy(template);
        if (!status) {
            assert_true(out.length > 100);
            buffer_deinit(&out);
            break;
        }
        assert_int_equal(status, LLCUDA_OUT_OF_MEMORY);
        assert_int_equal(error.status, LLCUDA_OUT_OF_MEMORY);
        assert_int_equal(out.length, 0);
        buffer_deinit(&out);
        failures++;
    }
    assert_true(failures > 5);
    json_destroy(document);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nesting_is_bounded_when_loaded),
    cmocka_unit_test(long_chains_are_fine),
    cmocka_unit_test(work_is_bounded),
    cmocka_unit_test(templates_have_a_largest_size),
    cmocka_unit_test(accumulation_is_linear),
    cmocka_unit_test(every_failed_allocation_is_an_error),
};

TEST_MAIN(tests)
