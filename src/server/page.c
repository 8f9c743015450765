/* Owns the web page: three files, put into the program's read-only data by the assembler, served
 * with a policy that lets it load nothing from elsewhere and run nothing inline. */
#include "server/routes.h"

#define EMBED(name, file)                            \
    extern const char page_##name##_begin[];         \
    extern const char page_##name##_end[];           \
    __asm__(".pushsection .rodata\n"                 \
            "page_" #name "_begin:\n"                \
            ".incbin \"" LLCUDA_PAGE "/" file "\"\n" \
            "page_" #name "_end:\n"                  \
            ".popsection\n")

EMBED(html, "index.html");
EMBED(css, "page.css");
EMBED(js, "page.js");

static void respond(struct call *call, const char *content_type, const char *begin, const char *end)
{
    buffer_append_text(&call->headers,
                       "Content-Security-Policy: default-src 'none'; script-src 'self'; "
                       "style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
                       "form-action 'none'; frame-ancestors 'none'\r\n"
                       "Referrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n");
    call_respond(call, 200, content_type, text_view_make(begin, (size_t)(end - begin)));
}

void route_page_html(struct call *call)
{
    respond(call, "text/html; charset=utf-8", page_html_begin, page_html_end);
}

void route_page_css(struct call *call)
{
    respond(call, "text/css; charset=utf-8", page_css_begin, page_css_end);
}

void route_page_js(struct call *call)
{
    respond(call, "text/javascript; charset=utf-8", page_js_begin, page_js_end);
}
