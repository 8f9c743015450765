/* The type table against itself, and the 16-bit floats against arithmetic that is done another way:
 * every value with ldexp, every rounding at the midpoint of two neighbours. */
#include "support/test_support.h"

#include "tensor/dtype.h"

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void table_is_consistent(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *info = dtype_info((enum dtype)i);
        enum dtype found;
        if (info->gguf_id == DTYPE_NO_GGUF) {
            assert_true(i == DTYPE_F8_E4M3 || i == DTYPE_F8_BLOCK);
            continue;
        }
        assert_true(dtype_from_gguf(info->gguf_id, &found));
        assert_int_equal(found, i);
        assert_string_equal(dtype_gguf_name(info->gguf_id), info->name);
    }
    enum dtype none;
    assert_false(dtype_from_gguf(40, &none));
    assert_false(dtype_from_gguf(UINT32_MAX, &none));
    assert_string_equal(dtype_gguf_name(40), "nvfp4");
    assert_string_equal(dtype_gguf_name(39), "mxfp4");
    assert_null(dtype_gguf_name(1000));
    assert_null(dtype_gguf_name(UINT32_MAX));
}

/* Every value by its definition; every rounding at and beside the midpoint of two neighbours. */
static void e4m3_reads_and_writes_every_value(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 256; bits++) {
        int exponent = (int)(bits >> 3 & 15);
        int mantissa = (int)(bits & 7);
        float value = float_from_e4m3((uint8_t)bits);
        if ((bits & 127) == 127) {
            assert_true(isnan(value));
            assert_int_equal(float_to_e4m3(value) & 127, 127);
            continue;
        }
        double expected = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
        assert_true((double)value == (bits & 128 ? -expected : expected));
        assert_int_equal(float_to_e4m3(value), bits);
        if (bits & 128 || (bits & 127) == 126) {
            continue;
        }
        float next = float_from_e4m3((uint8_t)(bits + 1));
        float middle = (value + next) / 2;
        assert_int_equal(float_to_e4m3(middle), bits % 2 ? bits + 1 : bits);
        assert_int_equal(float_to_e4m3(nextafterf(middle, 1000)), bits + 1);
        assert_int_equal(float_to_e4m3(nextafterf(middle, -1000)), bits);
    }
    assert_int_equal(float_to_e4m3(1e9f), 126);
    assert_int_equal(float_to_e4m3(-INFINITY), 254);
}

static void row_bytes_are_checked(void **state)
{
    (void)state;
    uint64_t bytes;
    assert_true(dtype_row_bytes(DTYPE_Q4_K, 512, &bytes));
    assert_int_equal(bytes, 288);
    assert_true(dtype_row_bytes(DTYPE_F32, 3, &bytes));
    assert_int_equal(bytes, 12);
    assert_true(dtype_row_bytes(DTYPE_Q8_0, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(dtype_row_bytes(DTYPE_Q8_0, 33, &bytes));
    assert_false(dtype_row_bytes(DTYPE_Q6_K, 128, &bytes));
    assert_true(dtype_row_bytes(DTYPE_F32, UINT64_MAX / 4, &bytes));
    assert_false(dtype_row_bytes(DTYPE_F32, UINT64_MAX / 4 + 1, &bytes));
    assert_false(dtype_row_bytes(DTYPE_Q8_0, UINT64_MAX - 31, &bytes));
}

static void f16_reads_every_value(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        int exponent = (int)(bits >> 10 & 31);
        int mantissa = (int)(bits & 1023);
        float value = float_from_f16((uint16_t)bits);
        if (exponent == 31 && mantissa) {
            assert_true(isnan(value));
            assert_int_equal(float_to_f16(value), bits | 0x200);
            continue;
        }
        double expected = exponent == 31  ? (double)INFINITY
                          : exponent == 0 ? ldexp(mantissa, -24)
                                          : ldexp(1024 + mantissa, exponent - 25);
        expected = bits & 0x8000 ? -expected : expected;
        assert_true((double)value == expected);
        assert_int_equal(signbit(value) != 0, bits >> 15);
        assert_int_equal(float_to_f16(value), bits);
    }
}

static void f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        double below = (double)float_from_f16((uint16_t)bits);
        double above = bits == 0x7bff ? 65536.0 : (double)float_from_f16((uint16_t)(bits + 1));
        float middle = (float)((below + above) / 2);
        uint32_t even = bits & 1 ? bits + 1 : bits;
        assert_int_equal(float_to_f16(middle), even);
        assert_int_equal(float_to_f16(nextafterf(middle, 0)), bits);
        assert_int_equal(float_to_f16(nextafterf(middle, INFINITY)), bits + 1);
        assert_int_equal(float_to_f16(-middle), even | 0x8000);
    }
    assert_int_equal(float_to_f16(1e30f), 0x7c00);
    assert_int_equal(float_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(float_to_f16(1e-30f), 0);
    assert_int_equal(float_to_f16(-0.0f), 0x8000);
}

static void bf16_reads_and_rounds(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = float_from_bf16((uint16_t)bits);
        assert_int_equal(bits_of(value), bits << 16);
        assert_int_equal(float_to_bf16(value), isnan(value) ? (bits | 0x40) : bits);
        if ((bits & 0x7fff) >= 0x7f80) {
            continue;
        }
        uint32_t middle_bits = bits << 16 | 0x8000;
        float middle;
        memcpy(&middle, &middle_bits, sizeof middle);
        assert_int_equal(float_to_bf16(middle), bits & 1 ? bits + 1 : bits);
        assert_int_equal(float_to_bf16(nextafterf(middle, 0)), bits);
        middle_bits++;
        memcpy(&middle, &middle_bits, sizeof middle);
        assert_int_equal(float_to_bf16(middle), bits + 1);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(table_is_consistent),   cmocka_unit_test(row_bytes_are_checked),
    cmocka_unit_test(f16_reads_every_value), cmocka_unit_test(f16_rounds_to_nearest_even),
    cmocka_unit_test(bf16_reads_and_rounds), cmocka_unit_test(e4m3_reads_and_writes_every_value),
};

TEST_MAIN(tests)
