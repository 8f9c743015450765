/* What a benchmark is to do: read from a YAML file, every key checked. Texts live in the config's
 * arena. docs/benchmarking.md describes the keys; benchmarks/schema.json lists them. */
#ifndef BENCH_CONFIG_H
#define BENCH_CONFIG_H

#include "base/arena.h"
#include "base/error.h"

#define CONFIG_LIST_MAX     16u
#define CONFIG_ENGINE_MAX   32u
#define CONFIG_WORKLOAD_MAX 64u
#define CONFIG_COMMAND_MAX  64u
#define CONFIG_RANKS_MAX    16u

/* How an engine is spoken to. */
enum engine_kind {
    ENGINE_ADAPTER, /* a program that speaks the JSON-lines protocol */
    ENGINE_HTTP     /* an OpenAI-compatible server, launched or already running */
};

struct config_engine {
    const char *name; /* unique, shown in reports */
    const char *type; /* the row of the catalogue, or "custom" */
    enum engine_kind kind;
    const char *command[CONFIG_COMMAND_MAX + 1]; /* argument list, NULL-terminated; may be empty for
                                                    a server that runs already */
    uint32_t command_count;
    const char *environment[CONFIG_LIST_MAX + 1]; /* "NAME=value", NULL-terminated */
    uint32_t environment_count;
    const char *url;        /* ENGINE_HTTP: "http://host:port"; NULL: the runner picks a port */
    const char *api_model;  /* "model" in requests; NULL: "default" */
    const char *model;      /* path, or "builtin" */
    const char *device;     /* "cpu", "cuda:0" */
    const char *options;    /* a JSON object for the adapter */
    const char *install;    /* how to get it, for the row of an engine that is not there */
    const char *maturity;   /* a phrase for the report, or NULL */
    uint32_t threads;       /* 0: the engine's own choice */
    uint32_t context;       /* positions */
    uint32_t parallel;      /* sequences at a time that the engine is asked to take */
    uint32_t start_seconds; /* it must be loaded within */
    uint32_t ranks;         /* processes that share the load, one a device from `device` on */
    bool prompt_text;       /* HTTP: send text instead of ids */
    bool replayed;          /* see catalog_is_replayed */
    bool baseline;          /* others are compared with this one */
    double price_per_hour;  /* of the machine; 0: as in `prices` */
};

enum load_kind {
    LOAD_BATCH,      /* waves: so many requests at once, the next wave when all are done */
    LOAD_CONCURRENT, /* closed loop: so many always in flight */
    LOAD_RATE,       /* open loop: requests come when they come */
    LOAD_TRACE       /* open loop at recorded times */
};

enum arrival_kind { ARRIVAL_POISSON, ARRIVAL_CONSTANT, ARRIVAL_GAMMA };

enum dataset_kind { DATASET_RANDOM, DATASET_SHARED_PREFIX, DATASET_FILE, DATASET_SHAREGPT };

struct config_workload {
    const char *name;
    enum load_kind kind;
    double levels[CONFIG_LIST_MAX]; /* batch sizes, concurrencies or requests a second */
    uint32_t level_count;
    uint32_t lengths[CONFIG_LIST_MAX]; /* prompt tokens */
    uint32_t length_count;
    uint32_t output_min, output_max; /* tokens asked for, uniform between both */
    uint32_t iterations;             /* LOAD_BATCH: measured waves */
    uint32_t warmup;                 /* waves or requests before, not counted */
    uint32_t request_count;          /* LOAD_CONCURRENT, LOAD_RATE: 0: by duration */
    double duration_seconds;         /* no request is sent after it; 0: nothing was said */
    enum arrival_kind arrival;
    double burstiness; /* ARRIVAL_GAMMA: shape; below 1 in bursts, 1 is Poisson */
    enum dataset_kind dataset;
    const char *dataset_path;                                /* file, ShareGPT or trace */
    uint32_t prefix_tokens;                                  /* DATASET_SHARED_PREFIX */
    double goodput_ttft_ms, goodput_tpot_ms, goodput_e2e_ms; /* 0: no bound */
};

struct config_analysis {
    double confidence;
    double reproducibility; /* coefficient of variation above which a figure is called unsteady */
    bool remove_outliers;   /* also report means without marked outliers */
    bool plots;
    bool mann_whitney, welch;
    uint32_t token_prompts, token_count; /* greedy agreement: prompts and tokens; 0: not checked */
    /* Where the time of engines goes: tokens of a prompt, and generated ones after `depth`
     * positions; both 0: not asked. */
    uint32_t profile_prompt, profile_generate, profile_depth;
};

struct config_system {
    const char *gpu_device;
    double thermal_limit_c; /* 0: none */
    double memory_limit_gb; /* 0: none */
    double steal_limit;     /* share of processors' time; 0: none */
    double monitor_hz;
};

struct config_prices {
    const char *currency;
    double machine_per_hour; /* 0: no cost table */
    double kwh;              /* of electricity; 0: in the machine's price */
    double hardware;         /* price of a machine, for the return on investment */
    double migration;        /* one-time cost of moving to another engine */
    double tokens_per_month;
};

struct config {
    struct arena arena;
    const char *name;
    const char *text; /* the file as it was read */
    const char *model_path, *model_gguf, *model_hf;
    uint64_t seed;
    uint32_t repeats;
    uint32_t timeout_seconds; /* of one engine's session */
    double cooldown_seconds;  /* between sessions */
    struct config_engine *engines;
    uint32_t engine_count;
    struct config_workload *workloads;
    uint32_t workload_count;
    struct config_analysis analysis;
    struct config_system system;
    struct config_prices prices;
};

/* Where programs are found. */
struct config_places {
    const char *self;    /* the llcuda program */
    const char *engines; /* the folder of adapters, "engines" */
    const char *python;  /* for adapters in Python */
};

/* Reads and checks `path` (or `text` when not NULL, with `path` for messages). *config is the
 * caller's (config_destroy). Errors: those of yaml_tree_read, and BAD_FORMAT with "path:line: " and
 * what was expected. */
llcuda_status config_read(const char *path, const char *text, const struct config_places *places,
                          struct config **config, struct llcuda_error *error);
void config_destroy(struct config *config);

/* One setting of a workload. */
struct config_point {
    uint32_t workload;
    double level;
    uint32_t length;
    char key[64]; /* "batch=4 prompt=128": unique in its workload */
};

/* The points of a workload: [*count] into `points`, at most CONFIG_LIST_MAX². */
uint32_t config_points(const struct config *config, uint32_t workload,
                       struct config_point points[CONFIG_LIST_MAX * CONFIG_LIST_MAX]);

const char *load_kind_name(enum load_kind kind);
const char *arrival_kind_name(enum arrival_kind kind);
const char *dataset_kind_name(enum dataset_kind kind);

#endif
