// Counters of an engine as plain numbers, with the ratios that people ask for. Header-only; C++17.
#ifndef LLCUDA_METRICS_HPP
#define LLCUDA_METRICS_HPP

#include "llcuda/types.hpp"

namespace llcuda
{

// A copy of llcuda_stats at one moment.
class Metrics
{
  public:
    explicit Metrics(const llcuda_engine *engine)
    {
        stats_.size = sizeof stats_;
        llcuda_engine_get_stats(engine, &stats_);
    }
    const llcuda_stats &stats() const noexcept
    {
        return stats_;
    }

    // Of the prompt tokens that were looked for in the prefix tree, the share that was found.
    double prefix_hit_rate() const noexcept
    {
        return ratio(stats_.prefix_hit_tokens, stats_.prefix_lookup_tokens);
    }
    // Share of the cache that running sequences hold.
    double block_use() const noexcept
    {
        return ratio(stats_.blocks_used, stats_.blocks_total);
    }
    // Rows of an average step.
    double batch_size() const noexcept
    {
        return ratio(stats_.prompt_tokens + stats_.generated_tokens, stats_.steps);
    }
    // Milliseconds of an average step on the device.
    double step_ms() const noexcept
    {
        return ratio(stats_.step_ns, stats_.steps) / 1e6;
    }
    // Microseconds of the engine thread around an average step.
    double host_us() const noexcept
    {
        return ratio(stats_.host_ns, stats_.steps) / 1e3;
    }
    // Tokens generated a second of device time.
    double tokens_per_second() const noexcept
    {
        return ratio(stats_.generated_tokens, stats_.step_ns) * 1e9;
    }

  private:
    static double ratio(std::uint64_t part, std::uint64_t whole) noexcept
    {
        return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
    }
    llcuda_stats stats_{};
};

} // namespace llcuda

#endif
