// What both kinds of attention in bfloat16 share: one position against a cache, and many positions.
#pragma once

#include <algorithm>
#include <vector>

#include "pool.h"
#include "vectors.h"

namespace {

// Letters: B rows, H heads, Hkv heads of keys, T positions that ask, S positions of keys, K the width of a head.
struct Strides {
    int64_t row, head, position;
    int64_t at(int64_t r, int64_t h, int64_t p) const { return r * row + h * head + p * position; }
};

struct Attention {
    const uint16_t *q, *k, *v;  // [B, H, T, K] and twice [B, Hkv, S, K], the numbers of a head side by side
    Floats mask;                // added to the scores, [B, H, T, S], where strides may be 0; may be null
    uint16_t* out;              // [B, T, H, K]
    float scale;
    bool is_causal;  // position t sees keys up to S - T + t
    int64_t rows, heads, kv_heads, positions, length, width;
    Strides to_q, to_k, to_v, to_mask;

    uint16_t* out_at(int64_t row, int64_t position, int64_t head) const {
        return out + ((row * positions + position) * heads + head) * width;
    }
};

// e to the power of x <= 0, to 2e-7: 2^n times a polynomial for what is left of the exponent. Below -87 it is 0, and of
// what is no number it is none, so that a broken model is seen to be one.
WIDE_TARGET inline __m512 exp_below_zero(__m512 x) {
    const __m512 exponent = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    const __m512 whole = _mm512_roundscale_ps(exponent, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(exponent, whole);
    __m512 power = _mm512_set1_ps(1.54035304e-4f);  // ln(2)^i / i! from i = 6 down
    for (const float factor : {1.33335581e-3f, 9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f})
        power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(factor));
    const __mmask16 is_seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(is_seen, power, whole);
}

// What sums of weights are multiplied by; a position that sees nothing gets zeros.
inline float inverse_of(float total) { return total > 0.0f ? 1.0f / total : 0.0f; }

// Scores of nothing but minus infinity have no largest.
inline float largest_or_zero(float largest) { return largest == -__builtin_inff() ? 0.0f : largest; }

}  // namespace
