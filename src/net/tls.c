/* Owns TLS: a certificate, its key, and connections that are encrypted with them. TLS 1.2 or later.
 * Only this file knows OpenSSL's connections. */
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "net/http_internal.h"

struct tls {
    SSL_CTX *context;
};

static llcuda_status fail_with(struct llcuda_error *error, const char *path)
{
    char reason[160];
    unsigned long code = ERR_get_error();
    ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return error_set(error, LLCUDA_BAD_FORMAT, "cannot use '%s' for TLS: %s", path,
                     code ? reason : "unknown reason");
}

llcuda_status tls_create(const char *certificate, const char *key, struct tls **made,
                         struct llcuda_error *error)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (!tls) {
        return error_no_memory(error, "TLS", sizeof *tls);
    }
    llcuda_status status = LLCUDA_OK;
    tls->context = SSL_CTX_new(TLS_server_method());
    if (!tls->context || SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1) {
        status = fail_with(error, certificate);
    } else if (SSL_CTX_use_certificate_chain_file(tls->context, certificate) != 1) {
        status = fail_with(error, certificate);
    } else if (SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(tls->context) != 1) {
        status = fail_with(error, key);
    }
    if (status) {
        tls_destroy(tls);
        return status;
    }
    SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Idle connections give their record buffers back: 32 KiB each otherwise. */
    SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS);
    *made = tls;
    return LLCUDA_OK;
}

void tls_destroy(struct tls *tls)
{
    if (tls) {
        SSL_CTX_free(tls->context);
        free(tls);
    }
}

struct bufferevent *tls_accept(struct tls *tls, struct event_base *base, int descriptor)
{
    SSL *ssl = SSL_new(tls->context);
    if (!ssl) {
        return NULL;
    }
    struct bufferevent *stream = bufferevent_openssl_socket_new(
        base, descriptor, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!stream) {
        SSL_free(ssl);
        return NULL;
    }
    /* Clients that close without a farewell are not attackers: HTTP frames its own bodies. */
    bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
    return stream;
}
