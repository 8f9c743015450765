/* Packing of quantised types, for every width of group that any level has, against the layout's
 * words in linear_q_layout.h and the types' readers: codes, scales, and what is zero. */
#include "support/test_support.h"

#include "cpu/guard.h"
#include "cpu/linear_q_layout.h"
#include "cpu/random_blocks.h"
#include "tensor/quant_read.h"

static const unsigned widths[] = {4, 8, 16};

/* One weight packed in groups of `lanes` rows. */
struct packed {
    enum dtype dtype;
    unsigned lanes;
    uint64_t rows, columns, bytes;
    unsigned char *data;
};

static uint32_t load(const unsigned char *from, unsigned bytes)
{
    uint32_t word = 0;
    memcpy(&word, from, bytes);
    return word;
}

static const unsigned char *group_of(const struct packed *p, uint64_t row)
{
    return p->data + row / p->lanes * q_group_offsets_of(p->dtype, p->lanes, p->columns).end;
}

/* Word `index` of a row's vector `v` in the array `offset` bytes into its group. */
static uint32_t word_at(const struct packed *p, uint64_t row, uint64_t offset, uint64_t v,
                        unsigned bytes)
{
    return load(group_of(p, row) + offset + (v * p->lanes + row % p->lanes) * bytes, bytes);
}

/* The code of a column, put together from the planes as the layout says. */
static unsigned code_at(const struct packed *p, uint64_t row, uint64_t column)
{
    const struct q_layout layout = q_layout_of(p->dtype);
    const uint64_t planes = q_group_offsets_of(p->dtype, p->lanes, p->columns).planes;
    const uint64_t step = column / 32 * q_layout_vectors(layout);
    const unsigned quad = (unsigned)(column % 32 / 4);
    const unsigned byte = 8 * (unsigned)(column % 4);
    if (layout.bits == 8) {
        return word_at(p, row, planes, step + quad, 4) >> byte & 0xff;
    }
    unsigned wide = layout.bits >= 4 ? 4 : 2; /* bits of the first plane */
    unsigned code = layout.bits >= 4
                        ? word_at(p, row, planes, step + quad % 4, 4) >> (byte + quad / 4 * 4) & 15
                        : word_at(p, row, planes, step + quad / 4, 4) >> (byte + quad % 4 * 2) & 3;
    if (layout.bits == 6) {
        code |= (word_at(p, row, planes, step + 4 + quad / 4, 4) >> (byte + quad % 4 * 2) & 3) << 4;
    } else if (layout.bits == 5 || layout.bits == 3) {
        code |= (word_at(p, row, planes, step + wide, 4) >> (byte + quad) & 1) << wide;
    }
    return layout.has_table ? q_table_of(p->dtype)[code] : code;
}

static struct packed pack(enum dtype dtype, unsigned lanes, const unsigned char *source,
                          uint64_t rows, uint64_t columns)
{
    struct packed p = {dtype, lanes, rows, columns, 0, NULL};
    uint64_t middle = rows / 2 / lanes * lanes;
    p.bytes = linear_q_packed_bytes(dtype, lanes, rows, columns);
    p.data = guard_alloc(p.bytes);
    memset(p.data, 0xee, p.bytes);
    linear_q_pack(dtype, lanes, source, rows, columns, middle, rows, p.data);
    linear_q_pack(dtype, lanes, source, rows, columns, 0, middle, p.data);
    return p;
}

static void check_codes(const struct packed *p, const unsigned char *source, uint64_t row_bytes)
{
    for (uint64_t row = 0; row < p->rows; row++) {
        for (uint64_t column = 0; column < p->columns; column++) {
            struct quant_step step;
            quant_reader(p->dtype)(source + row * row_bytes, column / 32, &step);
            int code = (int)code_at(p, row, column) - q_layout_of(p->dtype).offset;
            assert_int_equal(code, step.codes[column % 32]);
        }
    }
}

/* Scales are where the layout says in groups of every width: kernels of the widths that this
 * machine has show that their values are right (test_linear_q). */
static void check_scales(const struct packed *a, const struct packed *b)
{
    const struct q_layout layout = q_layout_of(a->dtype);
    const uint64_t blocks = a->columns / 32 / layout.block_steps;
    const uint64_t words_a = q_group_offsets_of(a->dtype, a->lanes, a->columns).words;
    const uint64_t words_b = q_group_offsets_of(b->dtype, b->lanes, b->columns).words;
    for (uint64_t row = 0; row < a->rows; row++) {
        for (uint64_t v = 0; v < blocks * layout.halves; v++) {
            assert_int_equal(word_at(a, row, 0, v, 2), word_at(b, row, 0, v, 2));
        }
        for (uint64_t v = 0; v < blocks * layout.words; v++) {
            assert_int_equal(word_at(a, row, words_a, v, 4), word_at(b, row, words_b, v, 4));
        }
    }
}

/* Rows that the last group lacks, and padding, are zeros: bytes are counted that differ when all
 * rows' own bytes have been cleared. */
static void check_zeros(const struct packed *p)
{
    const struct q_layout layout = q_layout_of(p->dtype);
    const struct q_group_offsets at = q_group_offsets_of(p->dtype, p->lanes, p->columns);
    const uint64_t steps = p->columns / 32;
    const uint64_t blocks = steps / layout.block_steps;
    for (uint64_t row = 0; row < p->rows; row++) {
        unsigned char *group = (unsigned char *)(uintptr_t)group_of(p, row);
        uint64_t lane = row % p->lanes;
        for (uint64_t v = 0; v < blocks * layout.halves; v++) {
            memset(group + (v * p->lanes + lane) * 2, 0, 2);
        }
        for (uint64_t v = 0; v < blocks * layout.words; v++) {
            memset(group + at.words + (v * p->lanes + lane) * 4, 0, 4);
        }
        for (uint64_t v = 0; v < steps * q_layout_vectors(layout); v++) {
            memset(group + at.planes + (v * p->lanes + lane) * 4, 0, 4);
        }
    }
    for (uint64_t i = 0; i < p->bytes; i++) {
        assert_int_equal(p->data[i], 0);
    }
}

static void every_width_has_the_layout(void **state)
{
    (void)state;
    unsigned types = 0;
    for (enum dtype dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (q_layout_of(dtype).bits == 0) {
            continue;
        }
        types++;
        uint64_t rows = 17 + test_random_below(20);
        uint64_t columns = (1 + test_random_below(3)) * dtype_info(dtype)->block_elements;
        uint64_t row_bytes;
        assert_true(dtype_row_bytes(dtype, columns, &row_bytes));
        unsigned char *source = guard_alloc(rows * row_bytes);
        for (uint64_t row = 0; row < rows; row++) {
            random_blocks(dtype, 0.01f, source + row * row_bytes, columns);
        }
        struct packed packed[3];
        for (unsigned i = 0; i < 3; i++) {
            packed[i] = pack(dtype, widths[i], source, rows, columns);
            check_codes(&packed[i], source, row_bytes);
            check_scales(&packed[i], &packed[0]);
        }
        for (unsigned i = 0; i < 3; i++) {
            check_zeros(&packed[i]);
            guard_free(packed[i].data, packed[i].bytes);
        }
        guard_free(source, rows * row_bytes);
    }
    assert_int_equal(types, 22);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_width_has_the_layout),
};

int main(void)
{
    test_seed_print();
    return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);
}
