// Weights of 8 bits: code * scale, with a scale for every 64 inputs of an output.
#pragma once

#include <vector>

#include "byte_rows.h"
#include "few_rows.h"
#include "panels.h"

namespace {

// 64 weights, 128 added to each: the instruction wants one side without signs.
VNNI_TARGET inline __m512i load_raised(const int8_t* from, int64_t count) {
    const __mmask64 mask = count >= 64 ? ~0ull : (1ull << count) - 1;
    return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from), _mm512_set1_epi8(static_cast<char>(0x80)));
}

struct Int8Product : ByteProduct {
    static constexpr int kRaised = 128;
    static constexpr bool kHasZero = false;
    const int8_t* weight;
    const uint16_t* scale;  // bfloat16 [N, pieces]

    template <int R, int C>
    void tile(int64_t row, int64_t column, float* factors) const;

    VNNI_TARGET __m512i codes(int64_t output, int64_t piece) const {
        const int8_t* from = weight + output * inputs + piece * 64;
        ask_for(from + kPanel * inputs);
        return load_raised(from, inputs - piece * 64);
    }
    float scale_of(int64_t output, int64_t piece) const { return from_bf16(scale[output * pieces + piece]); }
};

// The factor of every 64 inputs; returned is what the 128 that are added to every code have to give back.
VNNI_TARGET float int8_factors(const Int8Product& p, int64_t row, int64_t column, float* factors) {
    const uint16_t* scales = p.scale + column * p.pieces;
    const float *x_scale = &p.x->scale[row * p.x->pieces()], *totals = &p.x->totals[row * p.x->pieces()];
    __m512 sum = _mm512_setzero_ps();
    for (int64_t piece = 0; piece < p.pieces; piece += 16) {
        const int64_t count = p.pieces - piece < 16 ? p.pieces - piece : 16;
        const __m512 scale = load_bf16(scales + piece, count);
        sum = _mm512_fmadd_ps(scale, load_some(totals + piece, count), sum);
        const __m512 factor = _mm512_mul_ps(scale, load_some(x_scale + piece, count));
        _mm512_mask_storeu_ps(factors + piece, first_of(count), factor);
    }
    return -128.0f * _mm512_reduce_add_ps(sum);
}

// Few rows: weights stream through once, as they lie.
template <int R, int C>
VNNI_TARGET void Int8Product::tile(int64_t row, int64_t column, float* factors) const {
    const Int8Product& p = *this;
    const int64_t padded = p.x->padded;
    __m512 sums[R][C];
    IN_REGISTERS
    for (int c = 0; c < C; ++c)
        IN_REGISTERS
        for (int r = 0; r < R; ++r) {
            const float rest = int8_factors(p, row + r, column + c, factors + (c * R + r) * p.pieces);
            sums[r][c] = _mm512_zextps128_ps512(_mm_set_ss(rest));
        }
    const int8_t *weight = p.weight + column * p.inputs, *x = &p.x->bytes[row * padded];
    const __m512i none = _mm512_setzero_si512();
    for (int64_t piece = 0; piece < p.pieces; ++piece)
        IN_REGISTERS
        for (int c = 0; c < C; ++c) {
            const int8_t* from = weight + c * p.inputs + piece * 64;
            ask_for(from + C * p.inputs);
            const __m512i w = load_raised(from, p.inputs - piece * 64);
            IN_REGISTERS
            for (int r = 0; r < R; ++r) {
                const __m512i sum = _mm512_dpbusd_epi32(none, w, _mm512_loadu_si512(x + r * padded + piece * 64));
                const __m512 factor = _mm512_set1_ps(factors[(c * R + r) * p.pieces + piece]);
                sums[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, sums[r][c]);
            }
        }
    IN_REGISTERS
    for (int r = 0; r < R; ++r) finish<C>(p, row + r, column, sums[r]);
}

}  // namespace
