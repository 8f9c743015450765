/* Functions of vectors, in the words of simd_*.h, which must be included first. Good to two units
 * in the last place unless said otherwise; NaN stays NaN. */
#ifndef CPU_MATH_SIMD_H
#define CPU_MATH_SIMD_H

/* exp(x) for x up to 88.3, which a negative one is; below −87.3 as there: never zero, never a
 * denormal. x = n·ln 2 + r with |r| ≤ ln 2 / 2; n is what stays of x / ln 2 behind 1.5·2²³, where
 * floats are whole numbers; then a polynomial of degree 6 for exp(r) that is within 3.1e-9 of it
 * (fitted on Chebyshev nodes, reweighted until all extremes are equal). */
SIMD_INLINE SIMD_VECTOR simd_exp_bounded(SIMD_VECTOR x)
{
    const SIMD_VECTOR whole = simd_set(12582912.0f);
    const SIMD_VECTOR ln2_high = simd_set(-0.693359375f);
    const SIMD_VECTOR ln2_low = simd_set(2.12194440054690583e-4f);
    x = simd_at_least(x, simd_set(-87.3f));
    SIMD_VECTOR n = simd_multiply_add(x, simd_set(1.44269504088896341f), whole);
    n = simd_subtract(n, whole);
    SIMD_VECTOR r = simd_multiply_add(n, ln2_high, x);
    r = simd_multiply_add(n, ln2_low, r);
    SIMD_VECTOR sum = simd_set(0.0013814540579915f);
    sum = simd_multiply_add(sum, r, simd_set(0.0083687454462051f));
    sum = simd_multiply_add(sum, r, simd_set(0.0416683889925480f));
    sum = simd_multiply_add(sum, r, simd_set(0.1666652113199234f));
    sum = simd_multiply_add(sum, r, simd_set(0.4999999403953552f));
    sum = simd_multiply_add(sum, r, simd_set(1.0f));
    sum = simd_multiply_add(sum, r, simd_set(1.0f));
    return simd_times_power_of_two(sum, n);
}

/* exp(x), with x held between −87.3 and 88.3: never infinite, never zero, never a denormal. */
SIMD_INLINE SIMD_VECTOR simd_exp(SIMD_VECTOR x)
{
    return simd_exp_bounded(simd_at_most(x, simd_set(88.3f)));
}

/* x / (1 + exp(−exponent)): SiLU when the exponent is x. */
SIMD_INLINE SIMD_VECTOR simd_sigmoid_times(SIMD_VECTOR x, SIMD_VECTOR exponent)
{
    SIMD_VECTOR e = simd_exp(simd_subtract(simd_zero(), exponent));
    return simd_divide(x, simd_add(simd_set(1.0f), e));
}

/* tanh(x) = sign · (1 − e) / (1 + e), e = exp(−2|x|); absolute error below 1e-7. */
SIMD_INLINE SIMD_VECTOR simd_tanh(SIMD_VECTOR x)
{
    SIMD_VECTOR magnitude = simd_copy_sign(x, simd_zero());
    SIMD_VECTOR e = simd_exp(simd_multiply(magnitude, simd_set(-2.0f)));
    SIMD_VECTOR one = simd_set(1.0f);
    return simd_copy_sign(simd_divide(simd_subtract(one, e), simd_add(one, e)), x);
}

/* erf(x) by formula 7.1.26 of Abramowitz and Stegun's Handbook of Mathematical Functions; absolute
 * error below 3e-7. */
SIMD_INLINE SIMD_VECTOR simd_erf(SIMD_VECTOR x)
{
    SIMD_VECTOR one = simd_set(1.0f);
    SIMD_VECTOR magnitude = simd_copy_sign(x, simd_zero());
    SIMD_VECTOR t = simd_divide(one, simd_multiply_add(magnitude, simd_set(0.3275911f), one));
    SIMD_VECTOR sum = simd_set(1.061405429f);
    sum = simd_multiply_add(sum, t, simd_set(-1.453152027f));
    sum = simd_multiply_add(sum, t, simd_set(1.421413741f));
    sum = simd_multiply_add(sum, t, simd_set(-0.284496736f));
    sum = simd_multiply_add(sum, t, simd_set(0.254829592f));
    sum = simd_multiply(sum, t);
    SIMD_VECTOR e = simd_exp(simd_subtract(simd_zero(), simd_multiply(magnitude, magnitude)));
    return simd_copy_sign(simd_subtract(one, simd_multiply(sum, e)), x);
}

#endif
