/* The table of known engines. A row's command is an argument list in one line; nothing here is ever
 * given to a shell. Flags are those of the versions named in docs/benchmarking.md. */
#include "bench/catalog.h"

#include <string.h>

#define TRANSFORMERS "{python} {engines}/transformers/adapter.py"
#define CANDLE       "{engines}/candle/target/release/llcuda-bench-candle"
#define BURN         "{engines}/burn/target/release/llcuda-bench-burn"
#define MISTRALRS    "{engines}/mistralrs/target/release/llcuda-bench-mistralrs"
#define LLAMA_CPP    "{python} {engines}/llama_cpp/adapter.py"
#define LLAMA_BENCH  "{python} {engines}/llama_bench/adapter.py"
#define COMMAND_LINE "{python} {engines}/command/adapter.py"
#define LLAMA_SERVER                                                                       \
    "llama-server -m {model} --host {host} --port {port} -t {threads} -c {context_total} " \
    "-np {parallel} --no-warmup"

#define GET_TRANSFORMERS "engines/transformers/setup.sh, which makes a virtual environment"
#define GET_CANDLE       "cargo build --release in engines/candle (add --features cuda for a GPU)"
#define GET_BURN         "cargo build --release in engines/burn"
#define GET_MISTRALRS    "cargo build --release in engines/mistralrs"
#define GET_LLAMA_CPP    "pip install llama-cpp-python numpy, for the python given by --python"
#define GET_LLAMA_BENCH                                                                 \
    "build llama.cpp (cmake -B build && cmake --build build --target llama-bench) and " \
    "put llama-bench on the PATH"
#define GET_LLAMA                                                                        \
    "build llama.cpp (cmake -B build && cmake --build build --target llama-server) and " \
    "put llama-server on the PATH"

static const struct catalog_row rows[] = {
    {"llcuda_cpu", ENGINE_ADAPTER, CATALOG_ANY, "cpu", 64, "{self} bench engine", "{}",
     "it is this program", "one program in C, no run-time dependencies"},
    {"llcuda_gpu", ENGINE_ADAPTER, CATALOG_ANY, "cuda:0", 256, "{self} bench engine", "{}",
     "it is this program; it needs an NVIDIA driver", "one program in C, no run-time dependencies"},
    {"llcuda_http", ENGINE_HTTP, CATALOG_ANY, "cpu", 64,
     "{self} serve -m {model} --host {host} --port {port} -t {threads} -c {context} --device "
     "{device}",
     "{}", "it is this program", "one program in C, no run-time dependencies"},
    {"pytorch_baseline", ENGINE_ADAPTER, CATALOG_HF, "cpu", 1, TRANSFORMERS, "{\"mode\":\"eager\"}",
     GET_TRANSFORMERS, "the most widely used; model support on the day of release"},
    {"pytorch_cuda", ENGINE_ADAPTER, CATALOG_HF, "cuda:0", 1, TRANSFORMERS,
     "{\"mode\":\"eager\",\"dtype\":\"bf16\"}", GET_TRANSFORMERS,
     "the most widely used; model support on the day of release"},
    {"pytorch_compiled", ENGINE_ADAPTER, CATALOG_HF, "cpu", 1, TRANSFORMERS,
     "{\"mode\":\"compiled\"}", GET_TRANSFORMERS,
     "compiling takes minutes at each new shape; a static cache"},
    {"pytorch_compiled_cuda", ENGINE_ADAPTER, CATALOG_HF, "cuda:0", 1, TRANSFORMERS,
     "{\"mode\":\"compiled\",\"dtype\":\"bf16\"}", GET_TRANSFORMERS,
     "compiling takes minutes at each new shape; a static cache"},
    {"candle_cpu", ENGINE_ADAPTER, CATALOG_HF, "cpu", 1, CANDLE, "{\"dtype\":\"f32\"}", GET_CANDLE,
     "a Rust library; no server, no continuous batching of its own"},
    {"candle_gguf", ENGINE_ADAPTER, CATALOG_GGUF, "cpu", 1, CANDLE, "{}", GET_CANDLE,
     "a Rust library; no server, no continuous batching of its own"},
    {"candle_cuda", ENGINE_ADAPTER, CATALOG_HF, "cuda:0", 1, CANDLE, "{\"dtype\":\"bf16\"}",
     GET_CANDLE, "a Rust library; no server, no continuous batching of its own"},
    {"burn_cpu", ENGINE_ADAPTER, CATALOG_HF, "cpu", 1, BURN, "{}", GET_BURN,
     "a Rust training framework; language models are examples"},
    {"burn_cuda", ENGINE_ADAPTER, CATALOG_HF, "cuda:0", 1, BURN, "{}", GET_BURN,
     "a Rust training framework; language models are examples"},
    {"mistralrs_cpu", ENGINE_ADAPTER, CATALOG_HF, "cpu", 16, MISTRALRS, "{\"dtype\":\"f32\"}",
     GET_MISTRALRS, "a Rust server with continuous batching, above candle"},
    {"mistralrs_cuda", ENGINE_ADAPTER, CATALOG_HF, "cuda:0", 64, MISTRALRS, "{}", GET_MISTRALRS,
     "a Rust server with continuous batching, above candle"},
    {"llama_cpp", ENGINE_ADAPTER, CATALOG_GGUF, "cpu", 16, LLAMA_CPP, "{}", GET_LLAMA_CPP,
     "the widest choice of hardware; releases many times a week"},
    {"llama_cpp_cuda", ENGINE_ADAPTER, CATALOG_GGUF, "cuda:0", 64, LLAMA_CPP, "{}", GET_LLAMA_CPP,
     "the widest choice of hardware; releases many times a week"},
    {"llama_cpp_server", ENGINE_HTTP, CATALOG_GGUF, "cpu", 4, LLAMA_SERVER " -ngl 0", "{}",
     GET_LLAMA, "the widest choice of hardware; releases many times a week"},
    {"llama_cpp_server_cuda", ENGINE_HTTP, CATALOG_GGUF, "cuda:0", 32, LLAMA_SERVER " -ngl 999",
     "{}", GET_LLAMA, "the widest choice of hardware; releases many times a week"},
    {"llama_bench", ENGINE_ADAPTER, CATALOG_GGUF, "cpu", 1, LLAMA_BENCH, "{}", GET_LLAMA_BENCH,
     "llama.cpp's own measuring tool; its figures are replayed"},
    {"llama_bench_cuda", ENGINE_ADAPTER, CATALOG_GGUF, "cuda:0", 1, LLAMA_BENCH, "{}",
     GET_LLAMA_BENCH, "llama.cpp's own measuring tool; its figures are replayed"},
    {"command", ENGINE_ADAPTER, CATALOG_ANY, "cpu", 1, COMMAND_LINE, "{}",
     "see the option `command`", NULL},
    {"lm_rs", ENGINE_ADAPTER, CATALOG_ANY, "cpu", 1, COMMAND_LINE,
     "{\"command\":[\"chat\",\"--model\",\"{model}\",\"--tokenizer\",\"{folder}/tokenizer.bin\","
     "\"--temperature\",\"0\"],\"input\":\"{prompt}\\n\",\"begin_after\":\"Assistant:\\n\","
     "\"end_at\":\"\\nYou: \",\"pieces\":true}",
     "build lm.rs from its repository; it reads models in its own format", "a one-person project"},
    {"vllm", ENGINE_HTTP, CATALOG_HF, "cuda:0", 256,
     "vllm serve {model} --host {host} --port {port} --max-model-len {context}", "{}",
     "pip install vllm, in a virtual environment of its own",
     "the reference for throughput on GPUs"},
    {"vllm_cpu", ENGINE_HTTP, CATALOG_HF, "cpu", 16,
     "vllm serve {model} --host {host} --port {port} --max-model-len {context} --dtype float32",
     "{}", "vLLM built for CPUs (docs/benchmarking.md), in a virtual environment of its own",
     "made for GPUs; its CPU backend is younger"},
    {"sglang", ENGINE_HTTP, CATALOG_HF, "cuda:0", 256,
     "{python} -m sglang.launch_server --model-path {model} --host {host} --port {port}", "{}",
     "pip install sglang, in a virtual environment of its own", "near vLLM; strong prefix cache"},
    {"tensorrt_llm", ENGINE_HTTP, CATALOG_HF, "cuda:0", 256,
     "trtllm-serve {model} --host {host} --port {port}", "{}", "pip install tensorrt_llm",
     "NVIDIA's own; options are marked as prototypes"},
    {"tgi", ENGINE_HTTP, CATALOG_HF, "cuda:0", 128,
     "text-generation-launcher --model-id {model} --hostname {host} --port {port}", "{}",
     "the container ghcr.io/huggingface/text-generation-inference", "in maintenance"},
    {"mistralrs_server", ENGINE_HTTP, CATALOG_ANY, "cpu", 16,
     "mistralrs serve -p {port} -m {model}", "{}", "cargo install mistralrs-cli",
     "a Rust server with continuous batching, above candle"},
    {"openai_server", ENGINE_HTTP, CATALOG_ANY, "", 256, "", "{}",
     "start it and give its address as url", NULL},
    {"custom", ENGINE_ADAPTER, CATALOG_ANY, "cpu", 1, "", "{}", "see its command", NULL},
};

const struct catalog_row *catalog_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

bool catalog_is_replayed(const char *name)
{
    return strcmp(name, "llama_bench") == 0 || strcmp(name, "llama_bench_cuda") == 0;
}

const char *catalog_names(void)
{
    return "llcuda_cpu, llcuda_gpu, llcuda_http, pytorch_baseline, pytorch_cuda, pytorch_compiled, "
           "candle_cpu, candle_gguf, burn_cpu, mistralrs_cpu, mistralrs_server, llama_cpp, "
           "llama_cpp_server, llama_bench, command, lm_rs, vllm, vllm_cpu, sglang, tensorrt_llm, "
           "tgi, openai_server, custom; most of them also with _cuda";
}
