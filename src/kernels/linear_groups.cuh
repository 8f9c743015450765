/* Which rows of x a block of a linear layer takes, where their results go, and whose weights it reads:
 * rows one after another, or rows of one expert, found through the lists that `route` made. A
 * replayed graph meets other lists: the grid covers the most tiles that there can be, and blocks
 * without one have no rows. */
template <bool GROUPED> struct row_view {
    uint32_t n; /* rows of this block */
    uint32_t first;
    __device__ __forceinline__ uint32_t input(uint32_t i) const { return first + i; }
    __device__ __forceinline__ uint32_t output(uint32_t i) const { return first + i; }
    __device__ __forceinline__ const uint8_t *weights(const void *all) const
    {
        return (const uint8_t *)all;
    }
};

template <> struct row_view<true> {
    uint32_t n;
    uint32_t divisor;
    const uint32_t *places;
    uint64_t offset; /* of the expert's weights, bytes */
    __device__ __forceinline__ uint32_t input(uint32_t i) const { return places[i] / divisor; }
    __device__ __forceinline__ uint32_t output(uint32_t i) const { return places[i]; }
    __device__ __forceinline__ const uint8_t *weights(const void *all) const
    {
        return (const uint8_t *)all + offset;
    }
};

/* At most `most` rows from `first` on, of `count`. */
__device__ __forceinline__ struct row_view<false> rows_from(uint32_t first, uint32_t count,
                                                            uint32_t most)
{
    struct row_view<false> rows;
    rows.first = first;
    rows.n = count <= first ? 0 : count - first < most ? count - first : most;
    return rows;
}

/* Those of tile `index`, once the lists are there. */
__device__ __forceinline__ struct row_view<true> rows_of_tile(const struct linear_group &group,
                                                              uint32_t index)
{
    struct row_view<true> rows;
    rows.n = 0;
    rows.divisor = group.divisor;
    rows.places = group.places;
    rows.offset = 0;
    if (index < *group.tile_count) {
        const struct expert_tile tile = group.tiles[index];
        const uint32_t expert = tile.expert - group.expert_first;
        rows.n = expert < group.expert_count ? tile.count : 0;
        rows.places += tile.begin;
        rows.offset = expert * group.expert_bytes;
    }
    return rows;
}
