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

// R rows of activations times C of weights over all inputs: up to 24 sums in registers.
template <int R, int C>
BF16_TARGET inline void bf16_sums(const Bf16Product& p, int64_t row, int64_t column, __m512 (&sums)[R][C]) {
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] = _mm512_setzero_ps();
    const uint16_t *weight = p.weight + column * p.inputs, *x = p.x + row * p.stride;
    int64_t k = 0;
    for (; k + 32 <= p.inputs; k += 32) {
        __m512bh w[C];
        for (int c = 0; c < C; ++c) {
            const uint16_t* from = weight + c * p.inputs + k;
            ask_for(from + C * p.inputs);
            w[c] = load_bh(from);
        }
        for (int r = 0; r < R; ++r) {
            const __m512bh value = load_bh(x + r * p.stride + k);
            for (int c = 0; c < C; ++c) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], w[c], value);
        }
    }
    for (int r = 0; k < p.inputs && r < R; ++r) {
        const __m512bh value = load_some_bh(x + r * p.stride + k, p.inputs - k);
        for (int c = 0; c < C; ++c) {
            const __m512bh w = load_some_bh(weight + c * p.inputs + k, p.inputs - k);
            sums[r][c] = _mm512_dpbf16_ps(sums[r][c], w, value);
        }
    }
}

template <int R, int C>
BF16_TARGET void bf16_tile(const Bf16Product& p, int64_t row, int64_t column) {
    __m512 sums[R][C];
    bf16_sums<R, C>(p, row, column, sums);
    for (int r = 0; r < R; ++r) {
        float values[C];
        sum_up<C>(sums[r], values);
        for (int c = 0; c < C; ++c) {
            const float bias = p.bias ? from_bf16(p.bias[column + c]) : 0.0f;
            p.y[(row + r) * p.outputs + column + c] = to_bf16(values[c] + bias);
        }
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
