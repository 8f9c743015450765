/* bench_throughput MODEL [TOKENS]: tokens a second of one request and of 16 at once, what memory a
 * sleeping engine gives back, and that it answers the same after waking. Exits with 1 when sleep
 * gives back less than nine tenths of the weights, or the answers differ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "llcuda/llcuda.h"

#define TOGETHER 16u

static void check(llcuda_status status, const llcuda_error *error)
{
    if (status != LLCUDA_OK) {
        fprintf(stderr, "%s: %s\n", llcuda_status_name(status), error->message);
        exit(1);
    }
}

static uint64_t resident_bytes(void)
{
    unsigned long long size;
    unsigned long long resident = 0;
    FILE *stream = fopen("/proc/self/statm", "r");
    if (stream) {
        if (fscanf(stream, "%llu %llu", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(stream);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Decodes `choices` answers of `tokens` tokens to one prompt; tokens a second while decoding. A sum
 * over ids and places says whether two runs were equal. */
static double decode(llcuda_engine *engine, uint32_t choices, uint32_t tokens, uint64_t *sum)
{
    static const uint32_t prompt[4] = {11, 12, 13, 14};
    llcuda_request_options options;
    llcuda_request *request;
    const llcuda_event *event;
    llcuda_error error;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt_tokens = prompt;
    options.prompt_token_count = 4;
    options.max_tokens = tokens;
    options.ignore_eos = true;
    options.temperature = 1;
    options.top_k = 40;
    options.seed_given = true;
    options.choice_count = choices;
    check(llcuda_submit(engine, &options, &request, &error), &error);
    *sum = 0;
    uint64_t place = 0;
    do {
        check(llcuda_request_next(request, LLCUDA_FOREVER, &event, &error), &error);
        for (uint32_t i = 0; event->kind == LLCUDA_EVENT_TOKENS && i < event->token_count; i++) {
            *sum += event->tokens[i] * (event->choice + 1ull) * ++place;
        }
    } while (event->kind != LLCUDA_EVENT_DONE);
    check(event->status, &(llcuda_error){.message = "the request failed"});
    double rate = event->timings.decode_tokens_per_second;
    llcuda_request_release(request);
    return rate;
}

static double mb(uint64_t bytes)
{
    return (double)bytes / 1e6;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [TOKENS]\n", argv[0]);
        return 2;
    }
    uint32_t tokens = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 32;
    llcuda_engine_options options;
    llcuda_engine *engine;
    llcuda_error error;
    llcuda_engine_options_init(&options, sizeof options);
    options.model = argv[1];
    options.context_length = 512;
    options.running_max = TOGETHER;
    check(llcuda_engine_open(&options, &engine, &error), &error);
    const llcuda_engine_info *info = llcuda_engine_get_info(engine);
    printf("%s, weights %.1f MB (%s), %s\n", info->model_name, mb(info->weight_bytes),
           info->weight_types, info->device);
    uint64_t before;
    uint64_t sums[2];
    decode(engine, 1, 4, &before);
    double one = decode(engine, 1, tokens, &before);
    double many = decode(engine, TOGETHER, tokens, &sums[0]);
    printf("1 request %.1f tokens/s, %u at once %.1f tokens/s: %.1f times as many\n", one, TOGETHER,
           many, many / one);
    uint64_t awake = resident_bytes();
    check(llcuda_engine_sleep(engine, &error), &error);
    uint64_t asleep = resident_bytes();
    double share = (double)(awake - asleep) / (double)info->weight_bytes;
    printf("resident: awake %.1f MB, asleep %.1f MB: %.1f %% of the weights given back\n",
           mb(awake), mb(asleep), 100 * share);
    check(llcuda_engine_wake(engine, &error), &error);
    decode(engine, TOGETHER, tokens, &sums[1]);
    printf("after waking: %s tokens\n", sums[0] == sums[1] ? "the same" : "DIFFERENT");
    llcuda_engine_close(engine);
    return asleep < awake && share >= 0.9 && sums[0] == sums[1] ? 0 : 1;
}
