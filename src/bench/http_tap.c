/* Owns the ring and the order of segments. What lies in the ring is outside bytes: lengths are
 * those of headers that anybody may have sent, so nothing is believed but within its frame. */
#include "bench/http_tap.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_BYTES 256u
#define FRAMES      8192u
#define BLOCK_BYTES 65536u
#define HEAD_BYTES  128u /* of a segment, from its IP header on */
#define IPV4_BYTES  20u
#define IPV6_BYTES  40u
#define TCP_BYTES   20u
#define TCP_SYN     0x02u
#define MARKS_MIN   64u
#define MARKS_MAX   65536u

struct http_tap {
    int socket; /* of the ring */
    int ends;   /* hears of answers that end */
    uint8_t *ring;
    uint32_t frame; /* the next one to look at */
    bool ipv6;
    struct tap_stream *streams[65536]; /* by our port */
};

/* A filter that passes the heads of TCP segments from one address and port. A jump goes over a few
 * steps, or to one of the two ends, which are known when the program is whole. */
enum { NEXT, YES = 254, NO };

struct program {
    struct sock_filter steps[48];
    uint16_t count;
};

static void step(struct program *program, uint16_t code, uint32_t value)
{
    program->steps[program->count++] = (struct sock_filter)BPF_STMT(code, value);
}

static void load(struct program *program, uint16_t how, uint32_t offset)
{
    step(program, BPF_LD | how, offset);
}

static void compare(struct program *program, uint32_t value, uint8_t same, uint8_t other)
{
    program->steps[program->count++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, same, other);
}

/* Goes on where the value is `expected`; elsewhere to the end, which says no. */
static void expect(struct program *program, uint32_t expected)
{
    compare(program, expected, NEXT, NO);
}

static void finish_program(struct program *program)
{
    const uint16_t yes = program->count;
    step(program, BPF_RET | BPF_K, HEAD_BYTES);
    step(program, BPF_RET | BPF_K, 0);
    for (uint16_t i = 0; i < yes; i++) {
        struct sock_filter *jump = &program->steps[i];
        const uint16_t here = i + 1;
        for (int side = 0; side < 2 && BPF_CLASS(jump->code) == BPF_JMP; side++) {
            uint8_t *to = side ? &jump->jf : &jump->jt;
            *to = *to >= YES ? (uint8_t)(yes + (*to == NO) - here) : *to;
        }
    }
}

static void filter_ipv4(struct program *program, const struct sockaddr_in *server)
{
    load(program, BPF_B | BPF_ABS, 9);
    expect(program, IPPROTO_TCP);
    load(program, BPF_W | BPF_ABS, 12);
    expect(program, ntohl(server->sin_addr.s_addr));
    load(program, BPF_H | BPF_ABS, 6); /* no later part of a segment that was cut */
    step(program, BPF_ALU | BPF_AND | BPF_K, 0x1fff);
    expect(program, 0);
    step(program, BPF_LDX | BPF_B | BPF_MSH, 0);
    load(program, BPF_H | BPF_IND, 0);
    expect(program, ntohs(server->sin_port));
}

static void filter_ipv6(struct program *program, const struct sockaddr_in6 *server)
{
    load(program, BPF_B | BPF_ABS, 6);
    expect(program, IPPROTO_TCP);
    for (uint32_t i = 0; i < 4; i++) {
        load(program, BPF_W | BPF_ABS, 8 + 4 * i);
        expect(program, ntohl(server->sin6_addr.s6_addr32[i]));
    }
    step(program, BPF_LDX | BPF_IMM, IPV6_BYTES);
    load(program, BPF_H | BPF_IND, 0);
    expect(program, ntohs(server->sin6_port));
}

/* Of the segments that passed so far, where X is how long the IP header is: those that end as a
 * body in chunks does, or bring the second half of that end alone, and those that begin an answer
 * with another status than 2xx. */
static void filter_ends(struct program *program, bool ipv6)
{
    enum { IP, END, BYTES };
    step(program, BPF_STX, IP);
    load(program, BPF_H | BPF_ABS, ipv6 ? 4 : 2);
    step(program, BPF_ALU | BPF_ADD | BPF_K, ipv6 ? IPV6_BYTES : 0);
    step(program, BPF_ST, END);
    load(program, BPF_B | BPF_IND, 12); /* how long the TCP header is, in its upper half */
    step(program, BPF_ALU | BPF_AND | BPF_K, 0xf0);
    step(program, BPF_ALU | BPF_RSH | BPF_K, 2);
    step(program, BPF_ALU | BPF_ADD | BPF_X, 0);
    step(program, BPF_ST, BYTES);
    step(program, BPF_MISC | BPF_TAX, 0);
    step(program, BPF_LD | BPF_MEM, END);
    step(program, BPF_ALU | BPF_SUB | BPF_X, 0);
    compare(program, 2, NEXT, 2);
    load(program, BPF_H | BPF_IND, 0);
    compare(program, 0x0d0a, YES, NO); /* "\r\n" */
    step(program, BPF_LD | BPF_MEM, END);
    step(program, BPF_ALU | BPF_SUB | BPF_K, 7);
    step(program, BPF_MISC | BPF_TAX, 0);
    load(program, BPF_W | BPF_IND, 2);
    compare(program, 0x300d0a0d, NEXT, 8); /* "0\r\n\r" */
    load(program, BPF_B | BPF_IND, 6);
    compare(program, '\n', NEXT, 6);
    load(program, BPF_H | BPF_IND, 0); /* the end of the chunk before; "max=100" ends heads */
    compare(program, 0x0d0a, YES, NEXT);
    step(program, BPF_LD | BPF_MEM, END);
    step(program, BPF_LDX | BPF_MEM, BYTES);
    step(program, BPF_ALU | BPF_SUB | BPF_X, 0);
    compare(program, 5, YES, NEXT);
    step(program, BPF_LDX | BPF_MEM, BYTES);
    load(program, BPF_W | BPF_IND, 0);
    expect(program, 0x48545450); /* "HTTP" */
    load(program, BPF_B | BPF_IND, 9);
    compare(program, '2', NO, YES);
}

/* A packet socket that hears nothing yet but what the filter will let through. */
static int open_filtered(const struct sockaddr *server, bool ends)
{
    const bool ipv6 = server->sa_family == AF_INET6;
    struct program program = {.count = 0};
    if (ipv6) {
        filter_ipv6(&program, (const struct sockaddr_in6 *)(const void *)server);
    } else {
        filter_ipv4(&program, (const struct sockaddr_in *)(const void *)server);
    }
    if (ends) {
        filter_ends(&program, ipv6);
    }
    finish_program(&program);
    const struct sock_fprog filter = {program.count, program.steps};
    const int descriptor = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor >= 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

/* The filter comes before the ring and the ring before what is listened to, so that nothing else
 * ever lies in it. */
static bool open_sockets(struct http_tap *tap, const struct sockaddr *server)
{
    const int version = TPACKET_V2;
    const struct tpacket_req request = {.tp_block_size = BLOCK_BYTES,
                                        .tp_block_nr = FRAMES * FRAME_BYTES / BLOCK_BYTES,
                                        .tp_frame_size = FRAME_BYTES,
                                        .tp_frame_nr = FRAMES};
    const struct sockaddr_ll all = {.sll_family = AF_PACKET,
                                    .sll_protocol = htons(tap->ipv6 ? ETH_P_IPV6 : ETH_P_IP)};
    const struct sockaddr *listen = (const struct sockaddr *)(const void *)&all;
    tap->socket = open_filtered(server, false);
    tap->ends = open_filtered(server, true);
    if (tap->socket < 0 || tap->ends < 0 ||
        setsockopt(tap->socket, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(tap->socket, SOL_PACKET, PACKET_RX_RING, &request, sizeof request)) {
        return false;
    }
    void *ring = mmap(NULL, (size_t)FRAMES * FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                      tap->socket, 0);
    if (ring == MAP_FAILED) {
        return false;
    }
    tap->ring = ring;
    /* A segment goes to the last one first: nobody is told of an end that is not in the ring. */
    return bind(tap->ends, listen, sizeof all) == 0 && bind(tap->socket, listen, sizeof all) == 0;
}

struct http_tap *http_tap_open(const struct sockaddr *server)
{
    if (server->sa_family != AF_INET && server->sa_family != AF_INET6) {
        return NULL;
    }
    struct http_tap *tap = calloc(1, sizeof *tap);
    if (!tap) {
        return NULL;
    }
    tap->socket = tap->ends = -1;
    tap->ipv6 = server->sa_family == AF_INET6;
    if (!open_sockets(tap, server)) {
        http_tap_close(tap);
        return NULL;
    }
    return tap;
}

void http_tap_close(struct http_tap *tap)
{
    if (!tap) {
        return;
    }
    if (tap->ring) {
        munmap(tap->ring, (size_t)FRAMES * FRAME_BYTES);
    }
    if (tap->socket >= 0) {
        close(tap->socket);
    }
    if (tap->ends >= 0) {
        close(tap->ends);
    }
    free(tap);
}

void http_tap_watch(struct http_tap *tap, struct tap_stream *stream, int descriptor)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    http_tap_forget(tap, stream);
    if (!tap || getsockname(descriptor, (struct sockaddr *)(void *)&address, &length)) {
        return;
    }
    /* The port lies at the same place in both kinds of address. */
    stream->port = ((const struct sockaddr_in *)(const void *)&address)->sin_port;
    tap->streams[stream->port] = stream;
}

void http_tap_forget(struct http_tap *tap, struct tap_stream *stream)
{
    if (tap && tap->streams[stream->port] == stream) {
        tap->streams[stream->port] = NULL;
    }
    free(stream->marks);
    *stream = (struct tap_stream){0};
}

/* Whether sequence number `a` comes after `b`; they wrap. */
static bool after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static void add_mark(struct tap_stream *stream, uint64_t at_ns)
{
    if (stream->first == stream->count) {
        stream->first = stream->count = 0;
    }
    if (stream->count == stream->capacity) {
        const uint32_t capacity = stream->capacity ? stream->capacity * 2 : MARKS_MIN;
        struct tap_mark *marks =
            capacity <= MARKS_MAX ? realloc(stream->marks, capacity * sizeof *marks) : NULL;
        if (!marks) {
            return;
        }
        stream->marks = marks;
        stream->capacity = capacity;
    }
    stream->marks[stream->count++] = (struct tap_mark){stream->next, at_ns};
}

static void add_bytes(struct tap_stream *stream, uint32_t begin, uint32_t end, uint64_t at_ns)
{
    if (!after(end, stream->next)) {
        return;
    }
    if (after(begin, stream->next)) {
        if (stream->early_count == TAP_EARLY_MAX) {
            return;
        }
        stream->early[stream->early_count].begin = begin;
        stream->early[stream->early_count++].end = end;
        return;
    }
    stream->next = end;
    for (uint32_t i = 0; i < stream->early_count;) {
        if (after(stream->early[i].begin, stream->next)) {
            i++;
            continue;
        }
        const bool longer = after(stream->early[i].end, stream->next);
        stream->next = longer ? stream->early[i].end : stream->next;
        stream->early[i] = stream->early[--stream->early_count];
        i = longer ? 0 : i;
    }
    add_mark(stream, at_ns);
}

static uint32_t big16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

bool tap_read_head(const uint8_t *head, size_t bytes, bool ipv6, struct tap_segment *segment)
{
    if (bytes < (ipv6 ? IPV6_BYTES : IPV4_BYTES)) {
        return false;
    }
    const size_t ip = ipv6 ? IPV6_BYTES : 4u * (head[0] & 15u);
    const size_t all = ipv6 ? IPV6_BYTES + big16(head + 4) : big16(head + 2);
    if (ip < IPV4_BYTES || bytes < ip + TCP_BYTES) {
        return false;
    }
    const uint8_t *tcp = head + ip;
    const size_t heads = ip + 4u * (tcp[12] >> 4);
    if (all < heads || heads < ip + TCP_BYTES) {
        return false;
    }
    memcpy(&segment->port, tcp + 2, sizeof segment->port);
    segment->begin = big16(tcp + 4) << 16 | big16(tcp + 6);
    segment->first = tcp[13] & TCP_SYN;
    segment->begin += segment->first;
    segment->end = segment->begin + (uint32_t)(all - heads);
    return true;
}

void tap_stream_add(struct tap_stream *stream, const struct tap_segment *segment, uint64_t at_ns)
{
    if (segment->first && !stream->known) {
        stream->known = true;
        stream->read += segment->begin; /* what was read before this was known */
        stream->next = segment->begin;
    } else if (stream->known && segment->end != segment->begin) {
        add_bytes(stream, segment->begin, segment->end, at_ns);
    }
}

void http_tap_drain(struct http_tap *tap, int64_t offset_ns)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint8_t *frame = tap->ring + (size_t)tap->frame * FRAME_BYTES;
        struct tpacket2_hdr *header = (struct tpacket2_hdr *)(void *)frame;
        const uint32_t status = __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE);
        struct tap_segment segment;
        if (!(status & TP_STATUS_USER)) {
            return;
        }
        const size_t at = header->tp_net;
        const size_t room = at < FRAME_BYTES ? FRAME_BYTES - at : 0;
        const size_t bytes = header->tp_snaplen < room ? header->tp_snaplen : room;
        const int64_t time = (int64_t)header->tp_sec * 1000000000 + header->tp_nsec - offset_ns;
        if (time > 0 && tap_read_head(frame + at, bytes, tap->ipv6, &segment) &&
            tap->streams[segment.port]) {
            tap_stream_add(tap->streams[segment.port], &segment, (uint64_t)time);
        }
        __atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        tap->frame = (tap->frame + 1) % FRAMES;
    }
}

int http_tap_ends(const struct http_tap *tap)
{
    return tap->ends;
}

struct tap_stream *http_tap_next_end(struct http_tap *tap)
{
    uint8_t head[HEAD_BYTES];
    ssize_t got = 0;
    while ((got = recv(tap->ends, head, sizeof head, 0)) >= 0) {
        struct tap_segment segment;
        if (tap_read_head(head, (size_t)got, tap->ipv6, &segment) && tap->streams[segment.port]) {
            return tap->streams[segment.port];
        }
    }
    return NULL;
}

/* Marks of bytes that were read are of no use; what was read has arrived, whatever the ring says.
 */
static void drop_read(struct tap_stream *stream)
{
    while (stream->first < stream->count &&
           !after(stream->marks[stream->first].end, stream->read)) {
        stream->first++;
    }
    if (after(stream->read, stream->next)) {
        stream->next = stream->read;
        stream->early_count = 0;
    }
}

/* The reader has taken so many bytes. */
static void advance(struct tap_stream *stream, size_t bytes)
{
    stream->read += (uint32_t)bytes;
    if (stream->known) {
        drop_read(stream);
    }
}

size_t tap_stream_piece(struct tap_stream *stream, size_t bytes, uint64_t *at_ns)
{
    advance(stream, 0);
    const bool told = stream->first < stream->count;
    const struct tap_mark mark = told ? stream->marks[stream->first] : (struct tap_mark){0};
    const size_t there = told ? mark.end - stream->read : bytes;
    const size_t piece = there < bytes ? there : bytes;
    *at_ns = mark.at_ns;
    advance(stream, piece);
    return piece;
}
