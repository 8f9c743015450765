// Several models under one memory limit: each is loaded when it is first used, and those unused for
// longest give way. Header-only, over llcuda/llcuda.h; C++17. Any thread.
//
//     llcuda::ModelManager manager(8ull << 30);
//     manager.add("small", "small.gguf");
//     manager.add("large", "large.gguf");
//     llcuda::ModelManager::Lease lease = manager.acquire("small");
//     llcuda::InferResult result = lease.infer(request);
#ifndef LLCUDA_MODEL_MANAGER_HPP
#define LLCUDA_MODEL_MANAGER_HPP

#include "llcuda/inference_engine.hpp"

namespace llcuda
{

class ModelManager
{
  public:
    // A model in use: it stays awake while the lease lives.
    class Lease
    {
      public:
        Lease(llcuda_models *models, llcuda_engine *engine) : models_(models), engine_(engine)
        {
        }
        Lease(Lease &&other) noexcept : models_(other.models_), engine_(other.engine_)
        {
            other.engine_ = nullptr;
        }
        Lease(const Lease &) = delete;
        Lease &operator=(const Lease &) = delete;
        Lease &operator=(Lease &&) = delete;
        ~Lease()
        {
            if (engine_) {
                llcuda_models_release(models_, engine_);
            }
        }

        InferResult infer(const InferRequest &request) const
        {
            return submit(request).collect();
        }
        Stream submit(const InferRequest &request) const
        {
            return detail::submit(engine_, request);
        }
        const llcuda_engine_info &info() const
        {
            return *llcuda_engine_get_info(engine_);
        }
        Metrics metrics() const
        {
            return Metrics(engine_);
        }
        llcuda_engine *get() const noexcept
        {
            return engine_;
        }

      private:
        llcuda_models *models_;
        llcuda_engine *engine_;
    };

    struct State {
        std::string name;
        bool opened;
        bool asleep;
        std::uint32_t holders;
        std::uint64_t memory_bytes;
    };

    // 0: no limit.
    explicit ModelManager(std::uint64_t memory_limit_bytes = 0)
    {
        llcuda_models *models = nullptr;
        llcuda_error error;
        detail::check(llcuda_models_create(memory_limit_bytes, &models, &error), error);
        models_.reset(models);
    }

    void add(const std::string &name, const std::string &model, const EngineOptions &options = {})
    {
        llcuda_engine_options raw = InferenceEngine::raw_options(options);
        raw.model = model.c_str();
        llcuda_error error;
        detail::check(llcuda_models_add(models_.get(), name.c_str(), &raw, &error), error);
    }
    Lease acquire(const std::string &name)
    {
        llcuda_engine *engine = nullptr;
        llcuda_error error;
        detail::check(llcuda_models_acquire(models_.get(), name.c_str(), &engine, &error), error);
        return Lease(models_.get(), engine);
    }
    void sleep(const std::string &name)
    {
        llcuda_error error;
        detail::check(llcuda_models_sleep(models_.get(), name.c_str(), &error), error);
    }
    void remove(const std::string &name)
    {
        llcuda_error error;
        detail::check(llcuda_models_remove(models_.get(), name.c_str(), &error), error);
    }
    std::vector<State> states() const
    {
        std::vector<State> result;
        llcuda_model_state state;
        for (std::size_t i = 0; llcuda_models_get_state(models_.get(), i, &state); i++) {
            result.push_back(
                {state.name, state.opened, state.asleep, state.holders, state.memory_bytes});
        }
        return result;
    }

  private:
    struct Destroy {
        void operator()(llcuda_models *models) const
        {
            llcuda_models_destroy(models);
        }
    };
    std::unique_ptr<llcuda_models, Destroy> models_;
};

} // namespace llcuda

#endif
