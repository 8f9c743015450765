// Continues a text in C++, streaming, then asks for two choices at once:
//
//     complete_cpp MODEL "What is 2+2?"
#include <iostream>

#include <llcuda/inference_engine.hpp>

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::cerr << "usage: " << argv[0] << " MODEL PROMPT\n";
        return 2;
    }
    try {
        llcuda::InferenceEngine engine;
        engine.load_model(argv[1]);
        llcuda::InferRequest request;
        request.prompt = argv[2];
        request.max_tokens = 64;
        llcuda::InferResult result = engine.infer(request, [](const std::string &text) {
            std::cout << text << std::flush;
            return true;
        });
        std::cout << '\n';
        std::cerr << result.tokens << " tokens in " << result.latency_ms << " ms, "
                  << result.finish_reason << '\n';

        request.choices = 2;
        request.temperature = 0.8;
        request.seed = 7;
        for (const llcuda::Choice &choice : engine.infer(request).choices) {
            std::cerr << "choice: " << choice.token_ids.size() << " tokens\n";
        }
        std::cerr << "prefix hit rate " << engine.metrics().prefix_hit_rate() << '\n';
    } catch (const llcuda::Error &error) {
        std::cerr << llcuda_status_name(error.status()) << ": " << error.what() << '\n';
        return 1;
    }
    return 0;
}
