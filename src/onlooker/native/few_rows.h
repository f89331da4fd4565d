// Few rows of activations: weights stream through once, as they lie, and all else stays in the first-level cache.
#pragma once

#include "vectors.h"

namespace {

constexpr int kColumns = 4;  // rows of weights that stream side by side

// The sums of C registers each, as the first C words.
template <int C>
WIDE_TARGET inline __m128 sum_up(const __m512* sums) {
    static_assert(C == 1 || C == 4, "one column, or as many as a quarter of a register has words");
    if constexpr (C == 1) return _mm_set_ss(_mm512_reduce_add_ps(*sums));
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(sums[0], sums[1]), _mm512_unpackhi_ps(sums[0], sums[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(sums[2], sums[3]), _mm512_unpackhi_ps(sums[2], sums[3]));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// `tall` rows, of at most R.
template <int C, int R, class Tile>
void some_rows(const Tile& tile, int64_t tall, int64_t row, int64_t column) {
    if constexpr (R > 1) {
        if (tall < R) return some_rows<C, R - 1>(tile, tall, row, column);
    }
    tile.template run<R, C>(row, column);
}

// All rows in passes of about the same number; the weights of a later pass are in a near cache.
template <int C, class Tile>
void all_rows(const Tile& tile, int64_t rows, int64_t column) {
    for (int64_t row = 0; row < rows;) {
        const int64_t left = rows - row, passes = (left + Tile::rows - 1) / Tile::rows, tall = (left + passes - 1) / passes;
        some_rows<C, Tile::rows>(tile, tall, row, column);
        row += tall;
    }
}

template <class Tile>
void all_columns(const Tile& tile, int64_t rows, int64_t start, int64_t end) {
    int64_t column = start;
    for (; column + kColumns <= end; column += kColumns) all_rows<kColumns>(tile, rows, column);
    for (; column < end; ++column) all_rows<1>(tile, rows, column);
}

// A block of outputs for a thread to take: long enough to stream, short enough to share evenly.
inline int64_t block_of(int64_t outputs, int threads) {
    const int64_t block = outputs / (threads * 4) / kColumns * kColumns;
    return block < kColumns ? kColumns : block;
}

}  // namespace
