/* The routes that are no generation. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/server_internal.h"

/* routes.c: answers with a JSON document, and frees it. Ends the exchange. */
void respond_written(struct call *call, int status, struct buffer *body);

/* routes_admin.c */
void route_admin_models(struct call *call);
void route_admin_load(struct call *call);
void route_admin_sleep(struct call *call);
void route_admin_unload(struct call *call);

/* routes_text.c */
void route_tokenize(struct call *call);
void route_detokenize(struct call *call);
void route_apply_template(struct call *call);

/* page.c: the web page, which is open to everybody: what it shows needs a key where there is one.
 */
void route_page_html(struct call *call);
void route_page_css(struct call *call);
void route_page_js(struct call *call);
void route_openapi(struct call *call);

#endif
