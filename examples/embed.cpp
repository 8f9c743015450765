// Compares texts by their embeddings: prints the cosine of the first text with each of the others.
//
//     embed_cpp MODEL "What is 2+2?" "What is 2+3?" "Hello there."
#include <iostream>
#include <numeric>

#include <llcuda/inference_engine.hpp>

int main(int argc, char **argv)
{
    if (argc < 4) {
        std::cerr << "usage: " << argv[0] << " MODEL TEXT TEXT...\n";
        return 2;
    }
    try {
        llcuda::InferenceEngine engine(argv[1]);
        const std::vector<float> first = engine.embed(argv[2], LLCUDA_POOLING_MEAN);
        for (int i = 3; i < argc; i++) {
            // The vectors have length 1, so that the cosine is their product.
            const std::vector<float> other = engine.embed(argv[i], LLCUDA_POOLING_MEAN);
            std::cout << std::inner_product(first.begin(), first.end(), other.begin(), 0.0) << "  "
                      << argv[i] << '\n';
        }
    } catch (const llcuda::Error &error) {
        std::cerr << llcuda_status_name(error.status()) << ": " << error.what() << '\n';
        return 1;
    }
    return 0;
}
