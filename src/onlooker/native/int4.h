// Weights of 4 bits: (code - 8) * scale + zero, with both for every 64 or 128 inputs of an output.
//
// 64 bytes hold 128 codes: the first 64 in the low halves, the next 64 in the high halves.
#pragma once

#include <vector>

#include "byte_rows.h"
#include "few_rows.h"
#include "panels.h"

namespace {

struct Int4Product : ByteProduct {
    static constexpr int kRaised = 8;
    static constexpr bool kHasZero = true;
    const uint8_t* weight;
    const uint16_t *scale, *zero;  // bfloat16 [N, groups]
    int64_t groups;
    int repeat;  // how many times 64 inputs a group has: 1 or 2

    template <int R, int C>
    void tile(int64_t row, int64_t column, float* factors) const;

    VNNI_TARGET __m512i codes(int64_t output, int64_t piece) const {
        const uint8_t* from = weight + (output * pieces + piece / 2 * 2) * 32;
        ask_for(from + kPanel * pieces * 32);
        const __m512i both = _mm512_loadu_si512(from);
        return _mm512_and_si512(piece % 2 ? _mm512_srli_epi16(both, 4) : both, _mm512_set1_epi8(0x0f));
    }
    float scale_of(int64_t output, int64_t piece) const { return from_bf16(scale[output * groups + piece / repeat]); }
    float zero_of(int64_t output, int64_t piece) const { return from_bf16(zero[output * groups + piece / repeat]); }
};

// What does not depend on the codes: the factor of every 64 inputs, and the sum of (zero - 8 * scale) * x.
VNNI_TARGET float int4_factors(const Int4Product& p, int64_t row, int64_t column, float* factors) {
    const int64_t pieces = p.pieces;
    const uint16_t *scales = p.scale + column * p.groups, *zeros = p.zero + column * p.groups;
    const float *x_scale = &p.x->scale[row * pieces], *totals = &p.x->totals[row * pieces];
    // Of a byte the high half is taken where it stands: 16 times the code.
    const __m512 halves = _mm512_castsi512_ps(_mm512_set1_epi64(0x3d8000003f800000));  // 1, 1/16, 1, 1/16, ...
    __m512 sum = _mm512_setzero_ps();
    for (int64_t piece = 0; piece < pieces; piece += 16) {
        const int64_t count = pieces - piece < 16 ? pieces - piece : 16;
        __m512 scale, zero;
        if (p.repeat == 1) {
            scale = load_bf16(scales + piece, count), zero = load_bf16(zeros + piece, count);
        } else {  // every scale twice: as 32 bits with the same 16 in both halves
            const __mmask8 mask = static_cast<__mmask8>((1u << (count / 2)) - 1);
            const __m512i s = _mm512_cvtepu16_epi64(_mm_maskz_loadu_epi16(mask, scales + piece / 2));
            const __m512i z = _mm512_cvtepu16_epi64(_mm_maskz_loadu_epi16(mask, zeros + piece / 2));
            scale = _mm512_castsi512_ps(_mm512_or_si512(_mm512_slli_epi64(s, 16), _mm512_slli_epi64(s, 48)));
            zero = _mm512_castsi512_ps(_mm512_or_si512(_mm512_slli_epi64(z, 16), _mm512_slli_epi64(z, 48)));
        }
        const __m512 base = _mm512_fnmadd_ps(_mm512_set1_ps(8.0f), scale, zero);
        sum = _mm512_fmadd_ps(base, load_some(totals + piece, count), sum);
        const __m512 factor = _mm512_mul_ps(_mm512_mul_ps(scale, halves), load_some(x_scale + piece, count));
        _mm512_mask_storeu_ps(factors + piece, first_of(count), factor);
    }
    return _mm512_reduce_add_ps(sum);
}

template <int R, int C>
VNNI_TARGET void Int4Product::tile(int64_t row, int64_t column, float* factors) const {
    const Int4Product& p = *this;
    const int64_t padded = p.x->padded, pieces = p.pieces;
    for (int64_t group = 0; group < C * p.groups; group += 32) {  // a cache line
        ask_for(p.scale + (column + C) * p.groups + group);
        ask_for(p.zero + (column + C) * p.groups + group);
    }
    __m512 sums[R][C];
    IN_REGISTERS
    for (int c = 0; c < C; ++c)
        IN_REGISTERS
        for (int r = 0; r < R; ++r) {
            const float rest = int4_factors(p, row + r, column + c, factors + (c * R + r) * pieces);
            sums[r][c] = _mm512_zextps128_ps512(_mm_set_ss(rest));
        }
    const uint8_t* weight = p.weight + column * (padded / 2);
    const int8_t* x = &p.x->bytes[row * padded];
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8(static_cast<char>(0xf0));
    const __m512i none = _mm512_setzero_si512();
    for (int64_t piece = 0; piece < pieces; piece += 2)
        IN_REGISTERS
        for (int c = 0; c < C; ++c) {
            const uint8_t* from = weight + c * (padded / 2) + piece * 32;
            ask_for(from + C * (padded / 2));
            const __m512i both = _mm512_loadu_si512(from);
            const __m512i first = _mm512_and_si512(both, low), second = _mm512_and_si512(both, high);
            IN_REGISTERS
            for (int r = 0; r < R; ++r) {
                const int8_t* values = x + r * padded + piece * 64;
                const float* factor = factors + (c * R + r) * pieces + piece;
                const __m512i one = _mm512_dpbusd_epi32(none, first, _mm512_loadu_si512(values));
                const __m512i two = _mm512_dpbusd_epi32(none, second, _mm512_loadu_si512(values + 64));
                sums[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(one), _mm512_set1_ps(factor[0]), sums[r][c]);
                sums[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(two), _mm512_set1_ps(factor[1]), sums[r][c]);
            }
        }
    IN_REGISTERS
    for (int r = 0; r < R; ++r) finish<C>(p, row + r, column, sums[r]);
}

}  // namespace
