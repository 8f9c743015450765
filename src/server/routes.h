/* The routes that are no generation. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/server_internal.h"

/* routes_text.c */
void route_tokenize(struct call *call);
void route_detokenize(struct call *call);
void route_apply_template(struct call *call);

/* page.c: the web page, which is open to everybody: what it shows needs a key where there is one.
 */
void route_page_html(struct call *call);
void route_page_css(struct call *call);
void route_page_js(struct call *call);

#endif
