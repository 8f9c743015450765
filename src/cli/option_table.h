/* The one table of options. Parsing, --help, the man page, shell completion, docs/options.md, the
 * LLCUDA_… environment variables and the keys of a --config file all come from here.
 *
 * X(id, long name, letter or 0, kind, argument, minimum, maximum, default, group, commands, help)
 * The default is shown and is what the accessors return; NULL means "unset" and the help says what
 * happens then. */
#ifndef CLI_OPTION_TABLE_H
#define CLI_OPTION_TABLE_H

#define FOR_GENERATION (COMMAND_BIT(INFER) | COMMAND_BIT(CHAT) | COMMAND_BIT(BATCH))
#define FOR_MODEL                                                                               \
    (FOR_GENERATION | COMMAND_BIT(SERVE) | COMMAND_BIT(TOKENIZE) | COMMAND_BIT(DETOKENIZE) |    \
     COMMAND_BIT(TEMPLATE) | COMMAND_BIT(EVAL) | COMMAND_BIT(PERPLEXITY) | COMMAND_BIT(BENCH) | \
     COMMAND_BIT(IMATRIX) | COMMAND_BIT(KERNELS))
#define FOR_COMPUTING                                                                          \
    (FOR_GENERATION | COMMAND_BIT(SERVE) | COMMAND_BIT(EVAL) | COMMAND_BIT(PERPLEXITY) |       \
     COMMAND_BIT(DEVICES) | COMMAND_BIT(PLAN) | COMMAND_BIT(QUANTIZE) | COMMAND_BIT(IMATRIX) | \
     COMMAND_BIT(BENCH))
#define FOR_CONTEXT                                                                      \
    (FOR_GENERATION | COMMAND_BIT(SERVE) | COMMAND_BIT(EVAL) | COMMAND_BIT(PERPLEXITY) | \
     COMMAND_BIT(PLAN) | COMMAND_BIT(QUANTIZE) | COMMAND_BIT(IMATRIX) | COMMAND_BIT(BENCH))
#define FOR_SERVE COMMAND_BIT(SERVE)
#define FOR_ALL   UINT32_MAX

#define OPTION_LIST(X)                                                                             \
    X(MODEL, "model", 'm', TEXTS, "MODEL", 0, 0, NULL, "Model", FOR_MODEL,                         \
      "a GGUF file or a Hugging Face folder; without it the built-in demonstration model; serve "  \
      "takes it several times, also as NAME=MODEL")                                                \
    X(PROMPT, "prompt", 'p', TEXT, "TEXT", 0, 0, NULL, "Input and output", COMMAND_BIT(INFER),     \
      "the text to continue; an empty one starts from the beginning-of-sequence token")            \
    X(FILE, "file", 'f', TEXT, "FILE", 0, 0, NULL, "Input and output",                             \
      COMMAND_BIT(INFER) | COMMAND_BIT(TOKENIZE) | COMMAND_BIT(PERPLEXITY) | COMMAND_BIT(IMATRIX), \
      "read the text from FILE as it is; - is standard input")                                     \
    X(SYSTEM, "system", 's', TEXT, "TEXT", 0, 0, NULL, "Input and output",                         \
      COMMAND_BIT(INFER) | COMMAND_BIT(CHAT), "the system message of the conversation")            \
    X(CHAT, "chat", 0, FLAG, NULL, 0, 0, NULL, "Input and output", COMMAND_BIT(INFER),             \
      "treat the prompt as one chat turn: apply the model's chat template")                        \
    X(ECHO, "echo", 0, FLAG, NULL, 0, 0, NULL, "Input and output", COMMAND_BIT(INFER),             \
      "print the prompt before the continuation")                                                  \
    X(JSON, "json", 0, FLAG, NULL, 0, 0, NULL, "Input and output",                                 \
      COMMAND_BIT(INFER) | COMMAND_BIT(TOKENIZE) | COMMAND_BIT(DETOKENIZE) |                       \
          COMMAND_BIT(INSPECT) | COMMAND_BIT(DEVICES) | COMMAND_BIT(DOCTOR) |                      \
          COMMAND_BIT(PERPLEXITY) | COMMAND_BIT(PLAN) | COMMAND_BIT(BENCH) |                       \
          COMMAND_BIT(QUANTIZE) | COMMAND_BIT(IMATRIX),                                            \
      "print one JSON document instead of text")                                                   \
    X(INPUT, "input", 'i', TEXT, "FILE", 0, 0, NULL, "Input and output",                           \
      COMMAND_BIT(BATCH) | COMMAND_BIT(TEMPLATE),                                                  \
      "batch: requests, a JSON object a line; template: the conversation, one JSON object")        \
    X(OUTPUT, "output", 'o', TEXT, "PATH", 0, 0, NULL, "Input and output",                         \
      COMMAND_BIT(BATCH) | COMMAND_BIT(IMATRIX) | COMMAND_BIT(BENCH) | COMMAND_BIT(EXPERIMENT) |   \
          COMMAND_BIT(KERNELS),                                                                    \
      "batch: answers, a JSON object a line, in the order of the requests; imatrix: the matrix; "  \
      "bench, experiment: the folder of the report; kernels: the pack")                            \
    X(TEMPLATE, "template", 0, TEXT, "FILE", 0, 0, NULL, "Input and output",                       \
      COMMAND_BIT(TEMPLATE) | FOR_GENERATION | FOR_SERVE,                                          \
      "a chat template (Jinja) to use instead of the model's own")                                 \
    X(IDS, "ids", 0, TEXT, "\"1 2 3\"", 0, 0, NULL, "Input and output", COMMAND_BIT(EVAL),         \
      "token ids separated by spaces")                                                             \
    X(LOGITS, "logits", 0, TEXT, "OUT.npy", 0, 0, NULL, "Input and output", COMMAND_BIT(EVAL),     \
      "write the float32 logits of every position, [tokens, vocabulary], as a NumPy file")         \
    X(IMATRIX, "imatrix", 0, TEXT, "FILE", 0, 0, NULL, "Input and output", COMMAND_BIT(QUANTIZE),  \
      "an importance matrix: columns that matter more lose less")                                  \
    X(PERPLEXITY, "perplexity", 0, TEXT, "FILE", 0, 0, NULL, "Input and output",                   \
      COMMAND_BIT(QUANTIZE), "report what the new types cost on this text, against the source")    \
    X(NO_BOS, "no-bos", 0, FLAG, NULL, 0, 0, NULL, "Input and output", COMMAND_BIT(TOKENIZE),      \
      "do not add the beginning-of-sequence token")                                                \
    X(NO_SPECIAL, "no-special", 0, FLAG, NULL, 0, 0, NULL, "Input and output",                     \
      COMMAND_BIT(TOKENIZE), "read special tokens in the text as plain text")                      \
    X(MAX_TOKENS, "max-tokens", 'n', INTEGER, "N", 0, 16777216, NULL, "Generation",                \
      FOR_GENERATION, "generate at most N tokens (0, the default: what the context allows)")       \
    X(TEMPERATURE, "temp", 0, NUMBER, "T", 0, 100, NULL, "Generation", FOR_GENERATION,             \
      "0 is greedy; without any sampling option the model's own defaults apply")                   \
    X(TOP_K, "top-k", 0, INTEGER, "K", 0, 16777216, NULL, "Generation", FOR_GENERATION,            \
      "sample among the K likeliest tokens; 0: all")                                               \
    X(TOP_P, "top-p", 0, NUMBER, "P", 0, 1, NULL, "Generation", FOR_GENERATION,                    \
      "sample among the likeliest tokens that together reach probability P")                       \
    X(MIN_P, "min-p", 0, NUMBER, "P", 0, 1, NULL, "Generation", FOR_GENERATION,                    \
      "drop tokens less likely than P times the likeliest")                                        \
    X(TYPICAL_P, "typical-p", 0, NUMBER, "P", 0, 1, NULL, "Generation", FOR_GENERATION,            \
      "locally typical sampling; 1: off")                                                          \
    X(REPEAT_PENALTY, "repeat-penalty", 0, NUMBER, "R", 0.01, 100, NULL, "Generation",             \
      FOR_GENERATION, "divide the logits of tokens already seen by R; 1: off")                     \
    X(PRESENCE_PENALTY, "presence-penalty", 0, NUMBER, "A", -100, 100, NULL, "Generation",         \
      FOR_GENERATION, "subtract A from the logits of tokens already generated")                    \
    X(FREQUENCY_PENALTY, "frequency-penalty", 0, NUMBER, "A", -100, 100, NULL, "Generation",       \
      FOR_GENERATION, "subtract A times the count of a token so far")                              \
    X(DRY_MULTIPLIER, "dry-multiplier", 0, NUMBER, "M", 0, 100, NULL, "Generation",                \
      FOR_GENERATION, "DRY: penalty against repeating sequences; 0: off")                          \
    X(DRY_BASE, "dry-base", 0, NUMBER, "B", 1, 10, NULL, "Generation", FOR_GENERATION,             \
      "DRY: growth of the penalty with the length of the repetition")                              \
    X(DRY_ALLOWED, "dry-allowed-length", 0, INTEGER, "N", 1, 65536, NULL, "Generation",            \
      FOR_GENERATION, "DRY: repetitions up to this length are free")                               \
    X(LOGIT_BIAS, "logit-bias", 0, TEXTS, "ID=BIAS", 0, 0, NULL, "Generation", FOR_GENERATION,     \
      "add BIAS to the logit of token ID; may be given several times")                             \
    X(SEED, "seed", 0, INTEGER, "S", 0, 9007199254740991, NULL, "Generation", FOR_GENERATION,      \
      "the same seed gives the same text (default: random, reported by --json)")                   \
    X(STOP, "stop", 0, TEXTS, "TEXT", 0, 0, NULL, "Generation", FOR_GENERATION,                    \
      "end before TEXT appears; may be given several times")                                       \
    X(IGNORE_EOS, "ignore-eos", 0, FLAG, NULL, 0, 0, NULL, "Generation", FOR_GENERATION,           \
      "go on after an end-of-sequence token")                                                      \
    X(HOST, "host", 0, TEXT, "ADDRESS", 0, 0, "127.0.0.1", "Server", FOR_SERVE,                    \
      "the address to listen on")                                                                  \
    X(PORT, "port", 0, INTEGER, "N", 0, 65535, "8090", "Server", FOR_SERVE,                        \
      "the port; 0: any free one, which is printed")                                               \
    X(SOCKET, "socket", 0, TEXT, "PATH", 0, 0, NULL, "Server", FOR_SERVE,                          \
      "listen on a Unix socket that only this user may open, instead of an address")               \
    X(ALIAS, "alias", 0, TEXT, "NAME", 0, 0, NULL, "Server", FOR_SERVE,                            \
      "what clients call the model (default: its own name)")                                       \
    X(MODELS, "models", 0, TEXT, "FILE", 0, 0, NULL, "Server", FOR_SERVE,                          \
      "serve the models of a YAML file: a name, then options of this list; preload: true loads "   \
      "one at start, the others are loaded when they are first asked for")                         \
    X(MEMORY_LIMIT, "memory-limit", 0, NUMBER, "GIB", 0.001, 1000000, NULL, "Server", FOR_SERVE,   \
      "memory of all models together; the one used longest ago sleeps (default: no limit)")        \
    X(SLEEP_IDLE, "sleep-idle", 0, NUMBER, "SECONDS", 1, 31536000, NULL, "Server", FOR_SERVE,      \
      "a model nobody uses for so long gives its memory back (default: never)")                    \
    X(PRELOAD, "preload", 0, FLAG, NULL, 0, 0, NULL, "Server", FOR_SERVE,                          \
      "load every model at start, not only the first one")                                         \
    X(API_KEY, "api-key", 0, TEXT, "KEY[,KEY…]", 0, 0, NULL, "Server", FOR_SERVE,                  \
      "keys of which clients must send one; better in LLCUDA_API_KEY, where ps does not show it")  \
    X(API_KEY_FILE, "api-key-file", 0, TEXT, "FILE", 0, 0, NULL, "Server", FOR_SERVE,              \
      "a key a line, or sha256:HASH, then words: user or admin, name=N, concurrency=N, rate=N")    \
    X(KEY_CONCURRENCY, "key-concurrency", 0, INTEGER, "N", 1, 1000000, NULL, "Server", FOR_SERVE,  \
      "generating requests of one key at a time (default: no limit)")                              \
    X(KEY_RATE, "key-rate", 0, INTEGER, "N", 1, 1000000, NULL, "Server", FOR_SERVE,                \
      "generating requests of one key a minute (default: no limit)")                               \
    X(NO_KEY, "no-key", 0, FLAG, NULL, 0, 0, NULL, "Server", FOR_SERVE,                            \
      "serve everybody who can reach the address, without a key")                                  \
    X(ALLOW_HOST, "allow-host", 0, TEXT, "NAME[,NAME…]", 0, 0, NULL, "Server", FOR_SERVE,          \
      "Host names to answer to without a key, besides those of this machine")                      \
    X(TLS_CERT, "tls-cert", 0, TEXT, "FILE", 0, 0, NULL, "Server", FOR_SERVE,                      \
      "serve HTTPS with this certificate chain (PEM)")                                             \
    X(TLS_KEY, "tls-key", 0, TEXT, "FILE", 0, 0, NULL, "Server", FOR_SERVE,                        \
      "the certificate's private key (PEM)")                                                       \
    X(WORKERS, "workers", 0, INTEGER, "N", 1, 256, "2", "Server", FOR_SERVE, "network threads")    \
    X(THROUGHPUT, "throughput", 0, NUMBER, "SHARE", 0, 1, NULL, "Machine",                         \
      FOR_SERVE | COMMAND_BIT(BATCH),                                                              \
      "the dial from latency, 0, to throughput, 1: how much of a step prompts may fill while "     \
      "others wait for their next token (default: 0.5, of batch 1)")                               \
    X(STEP_TOKENS, "step-tokens", 0, INTEGER, "N", 17, 65536, NULL, "Machine",                     \
      FOR_SERVE | COMMAND_BIT(BATCH),                                                              \
      "most tokens of one step (default: 512; 2048 on a GPU of 16 GiB or more)")                   \
    X(RUNNING_MAX, "running-max", 0, INTEGER, "N", 1, 4096, NULL, "Server", FOR_SERVE,             \
      "sequences computed together (default: 64)")                                                 \
    X(QUEUE_MAX, "queue-max", 0, INTEGER, "N", 1, 1000000, NULL, "Server", FOR_SERVE,              \
      "answers waiting or running, at least --running-max; more get 429 (default: 1024)")          \
    X(QUEUE_TOKENS, "queue-tokens", 0, NUMBER, "N", 1, 1e15, NULL, "Server", FOR_SERVE,            \
      "tokens that waiting and running requests may take together, prompts and most possible "     \
      "answers; more get 429 (default: 64 times the cache)")                                       \
    X(CONNECTION_MAX, "connection-max", 0, INTEGER, "N", 1, 1000000, "16384", "Server", FOR_SERVE, \
      "open connections; more are answered 503")                                                   \
    X(REQUEST_TIMEOUT, "request-timeout", 0, NUMBER, "SECONDS", 0.001, 31536000, NULL, "Server",   \
      FOR_SERVE, "an answer that takes longer ends with an error (default: no limit)")             \
    X(DRAIN_TIMEOUT, "drain-timeout", 0, NUMBER, "SECONDS", 0, 86400, "30", "Server", FOR_SERVE,   \
      "after SIGTERM, what still runs then ends with an error")                                    \
    X(ACCESS_LOG, "access-log", 0, TEXT, "FILE", 0, 0, NULL, "Server", FOR_SERVE,                  \
      "append a JSON object for each request; - is standard error")                                \
    X(LOG_PROMPTS, "log-prompts", 0, FLAG, NULL, 0, 0, NULL, "Server", FOR_SERVE,                  \
      "the access log also has the bodies of generating requests")                                 \
    X(HEARTBEAT_TIMEOUT, "heartbeat-timeout", 0, NUMBER, "SECONDS", 0.05, 86400, "30", "Server",   \
      FOR_SERVE, "an engine with work and without a step for so long makes /readyz 503")           \
    X(METRICS_COMPAT, "metrics-compat", 0, TEXT, "NAME", 0, 0, NULL, "Server", FOR_SERVE,          \
      "vllm: metrics also under the names that vLLM gives them")                                   \
    X(OTLP_ENDPOINT, "otlp-endpoint", 0, TEXT, "URL", 0, 0, NULL, "Server", FOR_SERVE,             \
      "send spans to an OpenTelemetry collector: http://host:4318; /v1/traces is added")           \
    X(BENCH_MODE, "mode", 0, TEXT, "MODE", 0, 0, "latency", "Measuring", COMMAND_BIT(BENCH),       \
      "latency, throughput, concurrent, memory, kernels, sweep or scaling")                        \
    X(BENCH_PROMPT, "pp", 0, TEXT, "N[,N…]", 0, 0, "512", "Measuring", COMMAND_BIT(BENCH),         \
      "prompt lengths to measure; 0: none")                                                        \
    X(BENCH_GENERATE, "tg", 0, TEXT, "N[,N…]", 0, 0, "128", "Measuring", COMMAND_BIT(BENCH),       \
      "lengths of generation to measure; 0: none")                                                 \
    X(BENCH_DEPTH, "depth", 0, TEXT, "N[,N…]", 0, 0, "0", "Measuring", COMMAND_BIT(BENCH),         \
      "positions that are in the cache beforehand")                                                \
    X(BENCH_PARALLEL, "parallel", 0, TEXT, "N[,N…]", 0, 0, "1,8,32", "Measuring",                  \
      COMMAND_BIT(BENCH), "throughput: requests at once, each of the first --pp and --tg")         \
    X(BENCH_REPEATS, "repeats", 0, INTEGER, "N", 1, 1000, "5", "Measuring", COMMAND_BIT(BENCH),    \
      "how often each measurement is repeated")                                                    \
    X(BENCH_CONCURRENCY, "concurrency", 0, TEXT, "N[,N…]", 0, 0, NULL, "Load", COMMAND_BIT(BENCH), \
      "so many requests always in flight (closed loop)")                                           \
    X(BENCH_RATE, "request-rate", 0, TEXT, "R[,R…]", 0, 0, NULL, "Load", COMMAND_BIT(BENCH),       \
      "so many requests a second, however busy the engine is (open loop)")                         \
    X(BENCH_ARRIVAL, "arrival", 0, TEXT, "KIND", 0, 0, "poisson", "Load", COMMAND_BIT(BENCH),      \
      "how they arrive: poisson, constant, or gamma (in bursts)")                                  \
    X(BENCH_BATCH, "batch", 0, TEXT, "N[,N…]", 0, 0, NULL, "Load", COMMAND_BIT(BENCH),             \
      "so many requests at once, the next when all are done")                                      \
    X(BENCH_ITERS, "iters", 0, INTEGER, "N", 1, 10000000, NULL, "Load", COMMAND_BIT(BENCH),        \
      "with --batch: how many times (default: 5)")                                                 \
    X(BENCH_WARMUP, "warmup", 0, INTEGER, "N", 0, 10000000, NULL, "Load", COMMAND_BIT(BENCH),      \
      "requests or batches before, not counted (default: 1)")                                      \
    X(BENCH_DURATION, "duration", 0, NUMBER, "SECONDS", 0.1, 86400, NULL, "Load",                  \
      COMMAND_BIT(BENCH),                                                                          \
      "how long each concurrency and rate is measured (default: 10), and each "                    \
      "batch at most")                                                                             \
    X(BENCH_GOODPUT, "goodput", 0, TEXT, "NAME:MS[,…]", 0, 0, NULL, "Load", COMMAND_BIT(BENCH),    \
      "bounds in ms that a request must keep to count: ttft, tpot, e2e; ttft:500,tpot:50")         \
    X(BENCH_DATASET, "dataset", 0, TEXT, "NAME[:FILE]", 0, 0, NULL, "Load", COMMAND_BIT(BENCH),    \
      "prompts: random, shared-prefix:TOKENS, sharegpt:FILE, file:FILE, trace:FILE")               \
    X(BENCH_RANKS, "ranks", 0, TEXT, "N[,N…]", 0, 0, "1,2", "Load", COMMAND_BIT(BENCH),            \
      "scaling: processes that share the load, a GPU each, or parts of the processors")            \
    X(ENGINES, "engines", 0, TEXT, "DIR", 0, 0, "engines", "Measuring",                            \
      COMMAND_BIT(BENCH) | COMMAND_BIT(EXPERIMENT), "the folder of the adapters of other engines") \
    X(PYTHON, "python", 0, TEXT, "PROGRAM", 0, 0, "python3", "Measuring",                          \
      COMMAND_BIT(BENCH) | COMMAND_BIT(EXPERIMENT),                                                \
      "what runs the adapters that are written in Python")                                         \
    X(EXPERIMENT_ID, "exp-id", 0, TEXT, "ID", 0, 0, NULL, "Measuring", COMMAND_BIT(EXPERIMENT),    \
      "report: the experiment")                                                                    \
    X(DATABASE, "database", 0, TEXT, "FILE", 0, 0, "experiments.sqlite", "Measuring",              \
      COMMAND_BIT(EXPERIMENT), "where results of experiments are kept")                            \
    X(DEVICE, "device", 0, TEXT, "DEVICE", 0, 0, "auto", "Machine", FOR_COMPUTING,                 \
      "auto (a GPU that can be used, otherwise the CPU), cpu, cuda:N, hip:N or emu")               \
    X(THREADS, "threads", 't', INTEGER, "N", 1, 1024, NULL, "Machine", FOR_COMPUTING,              \
      "worker threads (default: one a core that this process may use)")                            \
    X(CONTEXT, "ctx", 'c', INTEGER, "N", 16, 16777216, NULL, "Machine", FOR_CONTEXT,               \
      "positions to keep, prompt and answer together (default: the model's, at most 8192)")        \
    X(CACHE_TYPE, "cache-type", 0, TEXT, "TYPE", 0, 0, "f16", "Machine",                           \
      FOR_CONTEXT | COMMAND_BIT(KERNELS),                                                          \
      "key-value cache: f16, bf16, f32, q8_0 (half the memory of f16) or, on GPUs, fp8 (E4M3)")    \
    X(CUDA_PATH, "cuda-path", 0, TEXT, "FOLDER[:FOLDER…]", 0, 0, NULL, "Machine",                  \
      FOR_COMPUTING | COMMAND_BIT(DOCTOR) | COMMAND_BIT(KERNELS),                                  \
      "absolute folders in which the GPU vendor's libraries (NVRTC, cuBLASLt) are looked for "     \
      "first")                                                                                     \
    X(ARCH, "arch", 0, TEXT, "ARCH", 0, 0, NULL, "Machine", COMMAND_BIT(KERNELS),                  \
      "the GPU's architecture, such as sm_90a or gfx90a; llcuda devices shows it")                 \
    X(GPU_MEMORY_LIMIT, "gpu-memory-limit", 0, TEXT, "GIB|N%", 0, 0, NULL, "Machine",              \
      FOR_COMPUTING,                                                                               \
      "memory of the GPU that may be used, in GiB or as a share of what it has, such as 90% "      \
      "(default: what is free)")                                                                   \
    X(GPU_LAYERS, "gpu-layers", 0, TEXT, "N|auto|all", 0, 0, "all", "Machine", FOR_COMPUTING,      \
      "how many of the model's last layers the GPU computes, with the logits; the CPU computes "   \
      "those before; auto: as many as fit the GPU's memory")                                       \
    X(GPU_GRAPHS, "gpu-graphs", 0, TEXT, "on|off", 0, 0, "on", "Machine", FOR_COMPUTING,           \
      "off: the kernels of a step are launched one by one, the reference of step graphs")          \
    X(KERNEL_CACHE, "kernel-cache", 0, TEXT, "FOLDER", 0, 0, NULL, "Machine", FOR_COMPUTING,       \
      "keeps compiled GPU kernels (default: llcuda/kernels in XDG_CACHE_HOME or ~/.cache)")        \
    X(KERNEL_PACK, "kernel-pack", 0, TEXT, "FILE", 0, 0, NULL, "Machine", FOR_COMPUTING,           \
      "compiled GPU kernels made by llcuda kernels, for machines without the compiler")            \
    X(DETERMINISTIC, "deterministic", 0, FLAG, NULL, 0, 0, NULL, "Machine", FOR_COMPUTING,         \
      "a row's result never depends on the rows beside it, also on a GPU")                         \
    X(CPU_LEVEL, "cpu-level", 0, TEXT, "LEVEL", 0, 0, NULL, "Machine", FOR_COMPUTING,              \
      "use no instructions beyond scalar, avx2 or avx512 (default: the best there is); "           \
      "avx512-bf16, amx, neon: also kernels that are off by default "                              \
      "(docs/internals/cpu-device.md)")                                                            \
    X(CONFIG, "config", 0, TEXT, "FILE", 0, 0, NULL, "Machine", FOR_ALL,                           \
      "read options from a YAML file; flags and LLCUDA_… variables win over it; bench: what to " \
      "measure (docs/benchmarking.md)")                                                            \
    X(LOG_LEVEL, "log-level", 0, TEXT, "LEVEL", 0, 0, "warn", "Machine", FOR_ALL,                  \
      "error, warn, info or debug, to standard error")                                             \
    X(BATCH_SIZE, "batch", 'b', INTEGER, "B", 1, 65536, "1", "Machine", COMMAND_BIT(PLAN),         \
      "concurrent requests to plan for")                                                           \
    X(BENCH, "bench", 0, FLAG, NULL, 0, 0, NULL, "Machine", COMMAND_BIT(DEVICES),                  \
      "measure memory bandwidth and arithmetic, which takes a few seconds")                        \
    X(HELP, "help", 'h', FLAG, NULL, 0, 0, NULL, "Help", FOR_ALL, "show this help")

#endif
