/* Owns who gets in: keys where there are any; otherwise local programs but no web pages. Decided on
 * the path that was routed and on nothing that could be read another way. */
#include <arpa/inet.h>
#include <stdio.h>

#include "server/keys.h"
#include "server/server_internal.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_name(struct text_view a, struct text_view b)
{
    if (a.length != b.length) {
        return false;
    }
    for (size_t i = 0; i < a.length; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

/* "name:port" or "[::1]:port" without the port and the brackets. */
static struct text_view host_name(struct text_view host)
{
    if (host.length && host.data[0] == '[') {
        const char *end = memchr(host.data, ']', host.length);
        return end ? text_view_make(host.data + 1, (size_t)(end - host.data) - 1)
                   : text_view_make(NULL, 0);
    }
    const char *colon = memchr(host.data ? host.data : "", ':', host.length);
    return colon ? text_view_make(host.data, (size_t)(colon - host.data)) : host;
}

bool guard_is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) {
        return (ntohl(four.s_addr) >> 24) == 127;
    }
    if (inet_pton(AF_INET6, host, &six) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&six);
    }
    return same_name(text_view_of(host), text_view_of("localhost"));
}

static bool in_list(struct text_view name, const char *list)
{
    while (list && *list) {
        const char *comma = strchr(list, ',');
        struct text_view item = text_view_make(list, comma ? (size_t)(comma - list) : strlen(list));
        if (item.length && same_name(name, item)) {
            return true;
        }
        list = comma ? comma + 1 : NULL;
    }
    return false;
}

/* A page elsewhere that resolves its own name to this address (DNS rebinding) sends its name. */
static bool host_is_allowed(const struct server *server, struct text_view host)
{
    char text[64];
    struct text_view name = host_name(host);
    if (name.length == 0 || name.length >= sizeof text) {
        return in_list(name, server->options.allowed_hosts);
    }
    memcpy(text, name.data, name.length);
    text[name.length] = 0;
    return guard_is_loopback(text) || in_list(name, server->options.allowed_hosts) ||
           (server->options.http.host && same_name(name, text_view_of(server->options.http.host)));
}

/* Browsers send where a page comes from: it must be this server. */
static bool origin_is_own(const struct http_request *request)
{
    struct text_view origin = http_request_header(request, "origin");
    static const char *const schemes[] = {"http://", "https://"};
    if (!origin.data) {
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(schemes[i]);
        if (origin.length > length && memcmp(origin.data, schemes[i], length) == 0 &&
            same_name(text_view_make(origin.data + length, origin.length - length),
                      request->host)) {
            return true;
        }
    }
    return false;
}

/* A form in a page can send text, but no JSON without asking first. */
static bool is_json(const struct http_request *request)
{
    struct text_view type = http_request_header(request, "content-type");
    const char *end = type.data ? memchr(type.data, ';', type.length) : NULL;
    if (end) {
        type.length = (size_t)(end - type.data);
    }
    while (type.length &&
           (type.data[type.length - 1] == ' ' || type.data[type.length - 1] == '\t')) {
        type.length--;
    }
    return same_name(type, text_view_of("application/json"));
}

static bool check_local(const struct call *call, struct api_error *error)
{
    const struct http_request *request = call->request;
    bool post = text_view_is(request->method, "POST");
    if (!call->server->options.http.unix_path && !host_is_allowed(call->server, request->host)) {
        return api_error_set(error, 403, "host_not_allowed", NULL,
                             "this Host is not served without an API key; --allow-host adds it");
    }
    if (!origin_is_own(request)) {
        return api_error_set(error, 403, "origin_not_allowed", NULL,
                             "web pages from elsewhere are not served without an API key");
    }
    if (post && !is_json(request)) {
        return api_error_set(error, 415, "unsupported_media_type", NULL,
                             "send Content-Type: application/json");
    }
    return true;
}

/* "Bearer KEY", or the key in the header that some clients use. */
static struct text_view presented_key(const struct http_request *request)
{
    struct text_view value = http_request_header(request, "authorization");
    static const char bearer[] = "bearer ";
    size_t length = sizeof bearer - 1;
    if (!value.data) {
        return http_request_header(request, "x-api-key");
    }
    if (value.length <= length ||
        !same_name(text_view_make(value.data, length), text_view_of(bearer))) {
        return text_view_make(NULL, 0);
    }
    return text_view_make(value.data + length, value.length - length);
}

static bool check_access(struct call *call, struct api_error *error)
{
    /* A path that is no route is refused as if it were one: what exists is nobody's business. */
    enum route_access access = call->route ? call->route->access : ACCESS_USER;
    if (access == ACCESS_OPEN) {
        return true;
    }
    if (keys_empty(call->server->keys)) {
        if (access == ACCESS_ADMIN) {
            return api_error_set(error, 403, "admin_key_required", NULL,
                                 "this needs a key of admin scope, and no key is configured");
        }
        return call->server->options.open || check_local(call, error);
    }
    enum key_scope scope =
        keys_check(call->server->keys, presented_key(call->request), &call->account);
    if (scope == KEY_NONE) {
        return api_error_set(error, 401, "invalid_api_key", NULL,
                             "a valid API key is needed: Authorization: Bearer KEY");
    }
    if (access == ACCESS_ADMIN && scope != KEY_ADMIN) {
        return api_error_set(error, 403, "admin_key_required", NULL,
                             "this needs a key of admin scope");
    }
    return true;
}

/* A compressed body would be no valid JSON, of which nobody would think. */
static bool check_encoding(const struct http_request *request, struct api_error *error)
{
    struct text_view encoding = http_request_header(request, "content-encoding");
    if (encoding.length && !text_view_is(encoding, "identity")) {
        return api_error_set(error, 415, "unsupported_media_type", NULL,
                             "send the body as it is, without Content-Encoding");
    }
    return true;
}

bool guard_check(struct call *call, struct api_error *error)
{
    return check_access(call, error) && check_encoding(call->request, error);
}
