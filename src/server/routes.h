/* The routes that are no generation. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/server_internal.h"

/* routes_text.c */
void route_tokenize(struct call *call);
void route_detokenize(struct call *call);
void route_apply_template(struct call *call);

#endif
