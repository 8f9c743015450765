// The C++ face of an engine: load a model, ask it, read answers whole or as they come. Header-only,
// over llcuda/llcuda.h; C++17. Failures are thrown as llcuda::Error.
//
//     llcuda::InferenceEngine engine;
//     engine.load_model("model.gguf");
//     llcuda::InferRequest request;
//     request.prompt = "Once upon a time";
//     request.max_tokens = 64;
//     llcuda::InferResult result = engine.infer(request);
//     std::cout << result.text << '\n';
//
// Threads: infer, submit, tokenize and the like may be called from any thread at the same time;
// load_model, unload and destruction may not run beside them. A Stream belongs to one thread at a
// time, its cancel() to any.
#ifndef LLCUDA_INFERENCE_ENGINE_HPP
#define LLCUDA_INFERENCE_ENGINE_HPP

#include <functional>
#include <memory>

#include "llcuda/metrics.hpp"
#include "llcuda/types.hpp"

namespace llcuda
{

// A submitted request, read event by event. Destroying it cancels what still runs.
class Stream
{
  public:
    explicit Stream(llcuda_request *request) : request_(request)
    {
    }

    // The next event, or nothing when none has come in time; the last one has kind
    // LLCUDA_EVENT_DONE. It stays valid until the next call.
    const llcuda_event *next(std::int64_t timeout_ms = LLCUDA_FOREVER)
    {
        const llcuda_event *event = nullptr;
        llcuda_error error;
        llcuda_status status = llcuda_request_next(request_.get(), timeout_ms, &event, &error);
        if (status == LLCUDA_TIMEOUT) {
            return nullptr;
        }
        detail::check(status, error);
        return event;
    }

    // Reads to the end. `on_text` sees each piece of the first choice's text as it comes; false
    // cancels. A request that failed throws; one that was cancelled or timed out says so in
    // finish_reason.
    InferResult collect(const std::function<bool(const std::string &)> &on_text = nullptr)
    {
        InferResult result;
        result.seed = llcuda_request_seed(request_.get());
        for (;;) {
            const llcuda_event *event = next();
            if (event->kind == LLCUDA_EVENT_DONE) {
                finish(*event, result);
                return result;
            }
            if (result.choices.size() <= event->choice) {
                result.choices.resize(event->choice + 1);
            }
            Choice &choice = result.choices[event->choice];
            choice.text.append(event->text, event->text_bytes);
            if (event->kind == LLCUDA_EVENT_TOKENS) {
                choice.token_ids.insert(choice.token_ids.end(), event->tokens,
                                        event->tokens + event->token_count);
                if (event->logprobs) {
                    choice.logprobs.insert(choice.logprobs.end(), event->logprobs,
                                           event->logprobs + event->token_count);
                }
            } else if (event->kind == LLCUDA_EVENT_FINISHED) {
                choice.finish_reason = event->finish_reason;
            }
            if (on_text && event->choice == 0 && event->text_bytes > 0 &&
                !on_text(std::string(event->text, event->text_bytes))) {
                cancel();
            }
        }
    }

    void cancel()
    {
        llcuda_request_cancel(request_.get());
    }
    std::uint64_t seed() const
    {
        return llcuda_request_seed(request_.get());
    }

  private:
    static void finish(const llcuda_event &event, InferResult &result)
    {
        if (event.status != LLCUDA_OK && event.status != LLCUDA_CANCELLED &&
            event.status != LLCUDA_TIMEOUT) {
            throw Error(event.status, event.message);
        }
        if (result.choices.empty()) {
            result.choices.resize(1);
        }
        result.text = result.choices[0].text;
        result.finish_reason = llcuda_finish_reason_name(event.finish_reason);
        result.usage = event.usage;
        result.timings = event.timings;
        result.tokens = event.usage.completion_tokens;
        result.latency_ms = event.timings.total_ms;
    }

    struct Release {
        void operator()(llcuda_request *request) const
        {
            llcuda_request_release(request);
        }
    };
    std::unique_ptr<llcuda_request, Release> request_;
};

namespace detail
{

template <typename Field, typename Value> void set(Field &field, const std::optional<Value> &value)
{
    if (value) {
        field = *value;
    }
}

inline void fill(const InferRequest &request, llcuda_request_options &options)
{
    if (!request.messages.empty()) {
        options.messages = request.messages.data();
        options.messages_bytes = request.messages.size();
    } else if (!request.prompt_tokens.empty()) {
        options.prompt_tokens = request.prompt_tokens.data();
        options.prompt_token_count = request.prompt_tokens.size();
    } else {
        options.prompt = request.prompt.data();
        options.prompt_bytes = request.prompt.size();
    }
    options.max_tokens = request.max_tokens;
    options.min_tokens = request.min_tokens;
    options.ignore_eos = request.ignore_eos;
    set(options.temperature, request.temperature);
    set(options.top_k, request.top_k);
    set(options.top_p, request.top_p);
    set(options.min_p, request.min_p);
    set(options.typical_p, request.typical_p);
    set(options.repetition_penalty, request.repetition_penalty);
    set(options.presence_penalty, request.presence_penalty);
    set(options.frequency_penalty, request.frequency_penalty);
    set(options.dry_multiplier, request.dry_multiplier);
    options.seed_given = request.seed.has_value();
    set(options.seed, request.seed);
    options.choice_count = request.choices;
    options.logprobs = request.logprobs;
    options.top_logprobs = request.top_logprobs;
    options.echo = request.echo;
    options.priority = request.priority;
    options.timeout_ms = request.timeout_ms;
    options.tenant = request.tenant.c_str();
    options.cache_salt = request.cache_salt.c_str();
}

inline Stream submit(llcuda_engine *engine, const InferRequest &request)
{
    llcuda_request_options options;
    llcuda_engine_request_defaults(engine, &options, sizeof options);
    std::vector<llcuda_text> stops;
    for (const std::string &stop : request.stop) {
        stops.push_back({stop.data(), stop.size()});
    }
    std::vector<llcuda_logit_bias> biases;
    for (const auto &bias : request.logit_bias) {
        biases.push_back({bias.first, bias.second});
    }
    fill(request, options);
    options.stop = stops.data();
    options.stop_count = static_cast<std::uint32_t>(stops.size());
    options.logit_bias = biases.data();
    options.logit_bias_count = static_cast<std::uint32_t>(biases.size());
    llcuda_request *raw = nullptr;
    llcuda_error error;
    check(llcuda_submit(engine, &options, &raw, &error), error);
    return Stream(raw);
}

inline std::vector<float> embed(llcuda_engine *engine, const std::string &text,
                                llcuda_pooling pooling)
{
    llcuda_request_options options;
    llcuda_request_options_init(&options, sizeof options);
    options.prompt = text.data();
    options.prompt_bytes = text.size();
    options.embedding = pooling;
    llcuda_request *raw = nullptr;
    llcuda_error error;
    check(llcuda_submit(engine, &options, &raw, &error), error);
    std::unique_ptr<llcuda_request, void (*)(llcuda_request *)> request(raw,
                                                                        llcuda_request_release);
    const llcuda_event *event = nullptr;
    do {
        check(llcuda_request_next(raw, LLCUDA_FOREVER, &event, &error), error);
    } while (event->kind != LLCUDA_EVENT_DONE);
    if (event->status != LLCUDA_OK) {
        throw Error(event->status, event->message);
    }
    return std::vector<float>(event->embedding, event->embedding + event->embedding_length);
}

} // namespace detail

class InferenceEngine
{
  public:
    InferenceEngine() = default;
    explicit InferenceEngine(const std::string &model, const EngineOptions &options = {})
    {
        load_model(model, options);
    }

    // Opens a GGUF file or a Hugging Face folder, in place of the model before.
    void load_model(const std::string &model, const EngineOptions &options = {})
    {
        unload();
        llcuda_engine_options raw = raw_options(options);
        raw.model = model.c_str();
        llcuda_engine *engine = nullptr;
        llcuda_error error;
        detail::check(llcuda_engine_open(&raw, &engine, &error), error);
        engine_.reset(engine);
    }
    void unload()
    {
        engine_.reset();
    }
    bool loaded() const noexcept
    {
        return engine_ != nullptr;
    }

    // Asks and waits for the whole answer.
    InferResult infer(const InferRequest &request)
    {
        return submit(request).collect();
    }

    // The same with the text as it comes; false from `on_text` cancels.
    InferResult infer(const InferRequest &request,
                      const std::function<bool(const std::string &)> &on_text)
    {
        return submit(request).collect(on_text);
    }

    // Asks without waiting.
    Stream submit(const InferRequest &request)
    {
        return detail::submit(get(), request);
    }

    // The text's embedding, scaled to length 1: [info().embedding_length].
    std::vector<float> embed(const std::string &text, llcuda_pooling pooling = LLCUDA_POOLING_MODEL)
    {
        return detail::embed(get(), text, pooling);
    }

    std::vector<std::uint32_t> tokenize(const std::string &text, bool special = true,
                                        llcuda_tristate add_bos = LLCUDA_MODEL_DEFAULT) const
    {
        std::uint32_t *tokens = nullptr;
        std::size_t count = 0;
        llcuda_error error;
        detail::check(llcuda_tokenize(get(), text.data(), text.size(), add_bos, special, &tokens,
                                      &count, &error),
                      error);
        std::unique_ptr<std::uint32_t, Free> owner(tokens);
        return std::vector<std::uint32_t>(tokens, tokens + count);
    }

    std::string detokenize(const std::vector<std::uint32_t> &tokens, bool special = false) const
    {
        char *text = nullptr;
        std::size_t bytes = 0;
        llcuda_error error;
        detail::check(
            llcuda_detokenize(get(), tokens.data(), tokens.size(), special, &text, &bytes, &error),
            error);
        std::unique_ptr<char, Free> owner(text);
        return std::string(text, bytes);
    }

    // Renders the chat template for messages in JSON.
    std::string apply_template(const std::string &json) const
    {
        char *text = nullptr;
        std::size_t bytes = 0;
        llcuda_error error;
        detail::check(llcuda_apply_template(get(), json.data(), json.size(), &text, &bytes, &error),
                      error);
        std::unique_ptr<char, Free> owner(text);
        return std::string(text, bytes);
    }

    void sleep()
    {
        llcuda_error error;
        detail::check(llcuda_engine_sleep(get(), &error), error);
    }
    void wake()
    {
        llcuda_error error;
        detail::check(llcuda_engine_wake(get(), &error), error);
    }

    const llcuda_engine_info &info() const
    {
        return *llcuda_engine_get_info(get());
    }
    Metrics metrics() const
    {
        return Metrics(get());
    }

    // The C handle, for what this class lacks. Throws when no model is loaded.
    llcuda_engine *get() const
    {
        if (!engine_) {
            throw Error(LLCUDA_NOT_FOUND, "no model is loaded");
        }
        return engine_.get();
    }

    static llcuda_engine_options raw_options(const EngineOptions &options)
    {
        llcuda_engine_options raw;
        llcuda_engine_options_init(&raw, sizeof raw);
        raw.device = options.device.empty() ? nullptr : options.device.c_str();
        raw.threads = options.threads;
        raw.context_length = options.context_length;
        raw.kv_bytes = options.kv_bytes;
        raw.memory_limit_bytes = options.memory_limit_bytes;
        raw.running_max = options.running_max;
        raw.queue_max = options.queue_max;
        raw.step_tokens = options.step_tokens;
        raw.throughput_bias = options.throughput_bias;
        raw.prefix_cache = options.prefix_cache;
        return raw;
    }

  private:
    struct Free {
        void operator()(void *memory) const
        {
            llcuda_free(memory);
        }
    };
    struct Close {
        void operator()(llcuda_engine *engine) const
        {
            llcuda_engine_close(engine);
        }
    };

    std::unique_ptr<llcuda_engine, Close> engine_;
};

} // namespace llcuda

#endif
