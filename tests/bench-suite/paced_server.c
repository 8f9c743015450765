/* A scripted OpenAI-compatible server, for measuring what the harness costs over HTTP: every
 * request in flight gets a chunk each `step` microseconds, all of them in the same step, as from an
 * engine that batches. The text of a chunk is the time just before it was sent, and the time just
 * after the chunk before it was, so that a test knows between which two times each arrived.
 *   bench_paced_server STEP_US
 * prints its port, and ends when its standard input does. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "paced.h"

#define CLIENTS_MAX 64

struct client {
    int socket; /* -1: free */
    unsigned left;
    unsigned total;
    uint64_t sent_ns; /* when the last chunk had been */
    size_t length;
    char request[65536];
};

static struct client clients[CLIENTS_MAX];

static void send_chunk(struct client *client, const char *data)
{
    char chunk[1024];
    int length = snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(data), data);
    if (send(client->socket, chunk, (size_t)length, MSG_NOSIGNAL) != length) {
        close(client->socket);
        client->socket = -1;
    }
}

static void send_token(struct client *client)
{
    char data[512];
    snprintf(data, sizeof data,
             "data: {\"choices\":[{\"text\":\"%llu %llu\",\"index\":0,\"logprobs\":null,"
             "\"finish_reason\":null}],\"created\":1763600000,\"model\":\"gpt-3.5-turbo\","
             "\"system_fingerprint\":\"b6500-0123abcd\",\"object\":\"text_completion\","
             "\"id\":\"chatcmpl-0123456789abcdefghijklmnopqrstuv\"}\n\n",
             (unsigned long long)paced_now_ns(), (unsigned long long)client->sent_ns);
    send_chunk(client, data);
    client->sent_ns = paced_now_ns();
    client->left--;
}

static void send_end(struct client *client)
{
    char data[256];
    snprintf(data, sizeof data,
             "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":64,\"completion_tokens\":%u}}\n\n"
             "data: [DONE]\n\n",
             client->total);
    send_chunk(client, data);
    if (client->socket >= 0 && send(client->socket, "0\r\n\r\n", 5, MSG_NOSIGNAL) != 5) {
        close(client->socket);
        client->socket = -1;
    }
    client->total = 0;
}

/* Answers a request whose body is there. */
static void take_request(struct client *client)
{
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n";
    static const char models[] = "HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n"
                                 "{\"data\":[{\"id\":\"paced\"}]}";
    client->request[client->length] = 0;
    const char *body = strstr(client->request, "\r\n\r\n");
    const char *length = strstr(client->request, "Content-Length: ");
    size_t expected = length ? strtoull(length + 16, NULL, 10) : 0;
    if (!body || strlen(body + 4) < expected) {
        return;
    }
    bool posts = strncmp(client->request, "POST", 4) == 0;
    const char *answer = posts ? stream : models;
    if (send(client->socket, answer, strlen(answer), MSG_NOSIGNAL) < 0) {
        close(client->socket);
        client->socket = -1;
    }
    const char *tokens = strstr(body, "\"max_tokens\":");
    client->left = client->total = posts && tokens ? (unsigned)strtoul(tokens + 13, NULL, 10) : 0;
    client->length = 0;
}

static void read_clients(int listener)
{
    int on = 1;
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    for (int i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &clients[i];
        if (client->socket < 0 && descriptor >= 0) {
            *client = (struct client){.socket = descriptor};
            setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            descriptor = -1;
        }
        if (client->socket < 0 || client->total) {
            continue;
        }
        ssize_t got = recv(client->socket, client->request + client->length,
                           sizeof client->request - 1 - client->length, 0);
        if (got > 0) {
            client->length += (size_t)got;
            take_request(client);
        } else if (got == 0 || errno != EAGAIN) {
            close(client->socket);
            client->socket = -1;
        }
    }
}

int main(int argument_count, char **arguments)
{
    uint64_t step_ns = argument_count > 1 ? strtoull(arguments[1], NULL, 10) * 1000 : 1000000;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    char byte;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, CLIENTS_MAX) ||
        getsockname(listener, (struct sockaddr *)&address, &length)) {
        return 1;
    }
    for (int i = 0; i < CLIENTS_MAX; i++) {
        clients[i].socket = -1;
    }
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) != 0) {
        paced_sleep_until(paced_now_ns() +
                          step_ns); /* late or not, a whole step lies between two tokens */
        read_clients(listener);
        for (int i = 0; i < CLIENTS_MAX; i++) {
            if (clients[i].socket >= 0 && clients[i].total) {
                (clients[i].left ? send_token : send_end)(&clients[i]);
            }
        }
    }
    return 0;
}
