// Products in bfloat16, summed in float and rounded once; weights stream through as they lie.
//
// Few rows (decoding) wait for memory. Some rows (a short prompt) have 24 sums in registers at a time, and both sides come
// from the second-level cache. For more of them torch's product, which lays weights out first, is as fast.
#pragma once

#include <algorithm>
#include <vector>

#include "few_rows.h"
#include "pool.h"

namespace {

struct Bf16Product {
    const uint16_t *x, *weight, *bias;
    uint16_t* y;
    int64_t rows, outputs, inputs;
    int64_t stride;  // from one row of x to the next
};

// R rows of activations times C of weights: up to 24 sums in registers.
template <int R, int C>
BF16_TARGET void bf16_tile(const Bf16Product& p, int64_t row, int64_t column) {
    __m512 sums[R][C];
    IN_REGISTERS
    for (int r = 0; r < R; ++r)
        IN_REGISTERS
        for (int c = 0; c < C; ++c) sums[r][c] = _mm512_setzero_ps();
    const uint16_t *weight = p.weight + column * p.inputs, *x = p.x + row * p.stride;
    int64_t k = 0;
    for (; k + 32 <= p.inputs; k += 32) {
        __m512bh w[C];
        IN_REGISTERS
        for (int c = 0; c < C; ++c) {
            const uint16_t* from = weight + c * p.inputs + k;
            ask_for(from + C * p.inputs);
            w[c] = load_bh(from);
        }
        IN_REGISTERS
        for (int r = 0; r < R; ++r) {
            const __m512bh value = load_bh(x + r * p.stride + k);
            IN_REGISTERS
            for (int c = 0; c < C; ++c) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], w[c], value);
        }
    }
    if (k < p.inputs) {
        __m512bh w[C];
        IN_REGISTERS
        for (int c = 0; c < C; ++c) w[c] = load_some_bh(weight + c * p.inputs + k, p.inputs - k);
        IN_REGISTERS
        for (int r = 0; r < R; ++r) {
            const __m512bh value = load_some_bh(x + r * p.stride + k, p.inputs - k);
            IN_REGISTERS
            for (int c = 0; c < C; ++c) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], w[c], value);
        }
    }
    const __m128 bias = p.bias ? _mm512_castps512_ps128(load_bf16(p.bias + column, C)) : _mm_setzero_ps();
    IN_REGISTERS
    for (int r = 0; r < R; ++r) {
        const __m128i values = (__m128i)_mm_cvtneps_pbh(_mm_add_ps(sum_up<C>(sums[r]), bias));
        uint16_t* to = p.y + (row + r) * p.outputs + column;
        if constexpr (C == 4)
            _mm_storel_epi64(reinterpret_cast<__m128i*>(to), values);
        else
            *to = static_cast<uint16_t>(_mm_cvtsi128_si32(values));
    }
}

struct Bf16Tile {
    static constexpr int rows = 6;  // of activations in one pass, as many as registers hold
    const Bf16Product& p;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { bf16_tile<R, C>(p, row, column); }
};

void bf16_block(int64_t start, int64_t end, void* context) {
    const Bf16Product& p = *static_cast<Bf16Product*>(context);
    all_columns(Bf16Tile{p}, p.rows, start, end);
}

}  // namespace
