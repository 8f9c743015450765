/* Events in a binary heap; the clock jumps to the next one. */
#include "simulated.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"

struct simulated_stream {
    uint64_t due_ns;
    uint32_t index, left, prompt;
};

static double uniform(struct simulated *s)
{
    return 1 - random_uniform(s->seed, s->draws++, 0);
}

static double normal(struct simulated *s)
{
    double u = uniform(s);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(s));
}

static void sift_up(struct simulated *s, uint32_t place)
{
    while (place && s->streams[(place - 1) / 2].due_ns > s->streams[place].due_ns) {
        struct simulated_stream held = s->streams[place];
        s->streams[place] = s->streams[(place - 1) / 2];
        s->streams[(place - 1) / 2] = held;
        place = (place - 1) / 2;
    }
}

static void sift_down(struct simulated *s)
{
    uint32_t place = 0;
    for (;;) {
        uint32_t least = place;
        for (uint32_t child = 2 * place + 1; child <= 2 * place + 2; child++) {
            if (child < s->count && s->streams[child].due_ns < s->streams[least].due_ns) {
                least = child;
            }
        }
        if (least == place) {
            return;
        }
        struct simulated_stream held = s->streams[place];
        s->streams[place] = s->streams[least];
        s->streams[least] = held;
        place = least;
    }
}

static uint64_t now_ns(struct driver *driver)
{
    return ((struct simulated *)(void *)driver)->now_ns;
}

static llcuda_status submit(struct driver *driver, const struct load_request *requests,
                            uint32_t count, struct llcuda_error *error)
{
    struct simulated *s = (struct simulated *)(void *)driver;
    for (uint32_t i = 0; i < count; i++) {
        if (s->count == s->capacity) {
            s->capacity = s->capacity ? s->capacity * 2 : 64;
            s->streams = realloc(s->streams, s->capacity * sizeof *s->streams);
            if (!s->streams) {
                return error_no_memory(error, "streams", s->capacity);
            }
        }
        double wait_ms = s->first_median_ms * exp(s->first_sigma * normal(s)) * s->factor;
        s->streams[s->count] =
            (struct simulated_stream){s->now_ns + (uint64_t)(wait_ms * 1e6), requests[i].index,
                                      s->tokens, requests[i].id_count};
        sift_up(s, s->count++);
    }
    return LLCUDA_OK;
}

static llcuda_status wait_events(struct driver *driver, uint64_t until_ns,
                                 const struct load_sink *sink, struct llcuda_error *error)
{
    struct simulated *s = (struct simulated *)(void *)driver;
    (void)error;
    if (s->count == 0 || s->streams[0].due_ns > until_ns) {
        s->now_ns = until_ns > s->now_ns ? until_ns : s->now_ns;
        return LLCUDA_OK;
    }
    struct simulated_stream *stream = &s->streams[0];
    s->now_ns = stream->due_ns > s->now_ns ? stream->due_ns : s->now_ns;
    struct load_event event = {
        .index = stream->index, .now_ns = s->now_ns, .tokens = 1, .done = --stream->left == 0};
    if (event.done) {
        *stream = s->streams[--s->count];
    } else {
        stream->due_ns += (uint64_t)(-log(uniform(s)) * s->token_mean_ms * s->factor * 1e6);
    }
    sift_down(s);
    sink->event(sink->user, &event);
    return LLCUDA_OK;
}

static const struct driver_ops ops = {now_ns, submit, wait_events};

void simulated_init(struct simulated *s, uint64_t seed)
{
    *s = (struct simulated){.driver = {&ops},
                            .now_ns = 1000,
                            .seed = seed,
                            .first_median_ms = 40,
                            .first_sigma = 0.5,
                            .token_mean_ms = 8,
                            .tokens = 16,
                            .factor = 1};
}

void simulated_deinit(struct simulated *s)
{
    free(s->streams);
    s->streams = NULL;
}
