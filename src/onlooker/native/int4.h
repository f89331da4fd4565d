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

    void fill_panel(int64_t column, Panel& panel) const;
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
VNNI_TARGET void int4_tile(const Int4Product& p, int64_t row, int64_t column, float* factors) {
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

struct Int4Tile {
    static constexpr int rows = 4;  // of activations in one pass
    const Int4Product& p;
    float* factors;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { int4_tile<R, C>(p, row, column, factors); }
};

void int4_block(int64_t start, int64_t end, void* context) {
    const Int4Product& p = *static_cast<Int4Product*>(context);
    std::vector<float> factors(kColumns * Int4Tile::rows * p.pieces);
    all_columns(Int4Tile{p, factors.data()}, p.rows, start, end);
}

VNNI_TARGET void Int4Product::fill_panel(int64_t column, Panel& panel) const {
    const int64_t columns = std::min<int64_t>(kPanel, outputs - column);
    const __m512i low = _mm512_set1_epi8(0x0f);
    for (int64_t piece = 0; piece < pieces; ++piece)
        for (int half = 0; half < kPanel; half += 16) {
            __m512i words[16];
            for (int c = 0; c < 16; ++c) {
                const int64_t place = half + c, output = column + place, group = output * groups + piece / repeat;
                const uint8_t* from = weight + (output * pieces + piece / 2 * 2) * 32;
                ask_for(from + kPanel * pieces * 32);
                const bool is_there = place < columns;
                const __m512i both = is_there ? _mm512_loadu_si512(from) : _mm512_setzero_si512();
                words[c] = _mm512_and_si512(piece % 2 ? _mm512_srli_epi16(both, 4) : both, low);
                panel.scale[piece * kPanel + place] = is_there ? from_bf16(scale[group]) : 0.0f;
                panel.zero[piece * kPanel + place] = is_there ? from_bf16(zero[group]) : 0.0f;
            }
            turn(words);
            for (int step = 0; step < 16; ++step)
                _mm512_storeu_si512(&panel.codes[((piece * 16 + step) * kPanel + half) * 4], words[step]);
        }
}

}  // namespace
