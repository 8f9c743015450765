// The value types of the C++ interface: what goes into a request, what comes out of it, and the
// exception that carries a failure. Header-only, over llcuda/llcuda.h; C++17.
#ifndef LLCUDA_TYPES_HPP
#define LLCUDA_TYPES_HPP

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "llcuda/llcuda.h"

namespace llcuda
{

// A failure: status() for programs, what() for people, offset() into the input or LLCUDA_NO_OFFSET.
class Error : public std::runtime_error
{
  public:
    Error(llcuda_status status, const std::string &message, std::uint64_t offset = LLCUDA_NO_OFFSET)
        : std::runtime_error(message), status_(status), offset_(offset)
    {
    }
    explicit Error(const llcuda_error &error) : Error(error.status, error.message, error.offset)
    {
    }
    llcuda_status status() const noexcept
    {
        return status_;
    }
    std::uint64_t offset() const noexcept
    {
        return offset_;
    }

  private:
    llcuda_status status_;
    std::uint64_t offset_;
};

namespace detail
{
inline void check(llcuda_status status, const llcuda_error &error)
{
    if (status != LLCUDA_OK) {
        throw Error(error);
    }
}
} // namespace detail

// How to open a model. Zeros and empty texts mean the library's defaults.
struct EngineOptions {
    std::string device;               // "auto", "cpu", "cpu:avx2"
    std::uint32_t threads = 0;        // that compute
    std::uint32_t context_length = 0; // positions of a request
    std::uint64_t kv_bytes = 0;       // memory of the key-value cache
    std::uint64_t memory_limit_bytes = 0;
    std::uint32_t running_max = 0; // sequences in one step
    std::uint32_t queue_max = 0;   // sequences waiting or running
    std::uint32_t step_tokens = 0;
    double throughput_bias = 0.5; // 0: latency, 1: throughput
    bool prefix_cache = true;
};

// One request. An aggregate, so that C++20 code may write
// InferRequest{.prompt = "…", .max_tokens = 64, .temperature = 0.7}. What is not set comes from the
// model's own recommendations.
struct InferRequest {
    std::string prompt;           // text to continue; or
    std::uint32_t max_tokens = 0; // 0: as many as the context allows
    std::optional<double> temperature{};
    std::string messages{}; // a chat in JSON, rendered by the model's template; or
    std::vector<std::uint32_t> prompt_tokens{}; // ids
    std::uint32_t min_tokens = 0;
    std::vector<std::string> stop{};
    bool ignore_eos = false;
    std::optional<std::uint32_t> top_k{};
    std::optional<double> top_p{};
    std::optional<double> min_p{};
    std::optional<double> typical_p{};
    std::optional<double> repetition_penalty{};
    std::optional<double> presence_penalty{};
    std::optional<double> frequency_penalty{};
    std::optional<double> dry_multiplier{};
    std::optional<std::uint64_t> seed{};
    std::vector<std::pair<std::uint32_t, float>> logit_bias{};
    std::uint32_t choices = 1;
    bool logprobs = false;
    std::uint32_t top_logprobs = 0;
    bool echo = false;
    std::int32_t priority = 0;
    std::uint64_t timeout_ms = 0;
    std::string tenant{};
    std::string cache_salt{};
};

// One answer of a request.
struct Choice {
    std::string text;
    std::vector<std::uint32_t> token_ids;
    std::vector<llcuda_token_logprob> logprobs; // of each id, when asked for
    llcuda_finish_reason finish_reason = LLCUDA_FINISH_NONE;
};

// What a request came to.
struct InferResult {
    std::string text;          // of the first choice
    double latency_ms = 0;     // submission to the end
    std::uint32_t tokens = 0;  // generated, all choices together
    std::string finish_reason; // "stop", "length", "cancelled", "timeout"
    std::vector<Choice> choices;
    std::uint64_t seed = 0;
    llcuda_usage usage{};
    llcuda_timings timings{};
};

} // namespace llcuda

#endif
