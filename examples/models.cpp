// Two models in one process under one memory limit, used in turns:
//
//     models_cpp MODEL MODEL PROMPT
//
// The limit holds the larger of the two, so that each turn puts the other model to sleep.
#include <algorithm>
#include <iostream>

#include <llcuda/model_manager.hpp>

static std::uint64_t bytes_of(const char *model)
{
    llcuda_engine_options options = llcuda::InferenceEngine::raw_options({});
    options.model = model;
    options.asleep = true; // says what it would take, and takes nothing
    llcuda_engine *engine = nullptr;
    llcuda_error error;
    llcuda::detail::check(llcuda_engine_open(&options, &engine, &error), error);
    const llcuda_engine_info *info = llcuda_engine_get_info(engine);
    std::uint64_t bytes = info->weight_bytes + info->kv_bytes + info->logits_bytes;
    llcuda_engine_close(engine);
    return bytes;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::cerr << "usage: " << argv[0] << " MODEL MODEL PROMPT\n";
        return 2;
    }
    try {
        llcuda::ModelManager manager(std::max(bytes_of(argv[1]), bytes_of(argv[2])) * 5 / 4);
        manager.add("first", argv[1]);
        manager.add("second", argv[2]);
        llcuda::InferRequest request;
        request.prompt = argv[3];
        request.max_tokens = 16;
        for (int turn = 0; turn < 4; turn++) {
            const char *name = turn % 2 == 0 ? "first" : "second";
            std::cout << name << ": " << manager.acquire(name).infer(request).text << '\n';
        }
        for (const llcuda::ModelManager::State &state : manager.states()) {
            std::cerr << state.name << (state.asleep ? " sleeps" : " is awake") << '\n';
        }
    } catch (const llcuda::Error &error) {
        std::cerr << llcuda_status_name(error.status()) << ": " << error.what() << '\n';
        return 1;
    }
    return 0;
}
