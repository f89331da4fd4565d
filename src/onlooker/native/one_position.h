// Attention of one position against a long cache: keys and values are read once, all else is float.
#pragma once

#include "attention.h"

namespace {

constexpr int kWords = 16;  // of a register

// scores = q k * scale + mask; the largest of them is returned.
BF16_TARGET float position_scores(const Attention& p, int64_t row, int64_t head, int64_t kv, float* scores) {
    const uint16_t* q = p.q + p.to_q.at(row, head, 0);
    const uint16_t* k = p.k + p.to_k.at(row, kv, 0);
    for (int64_t s = 0; s < p.length; ++s, k += p.to_k.position) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t w = 0; w < p.width; w += 32)
            sum = _mm512_dpbf16_ps(sum, load_some_bh(q + w, p.width - w), load_some_bh(k + w, p.width - w));
        scores[s] = _mm512_reduce_add_ps(sum);
    }
    const __m512 none = _mm512_set1_ps(-__builtin_inff());
    __m512 largest = none;
    for (int64_t s = 0; s < p.length; s += kWords) {
        const __mmask16 is_there = first_of(p.length - s);
        __m512 score = _mm512_mul_ps(_mm512_maskz_loadu_ps(is_there, scores + s), _mm512_set1_ps(p.scale));
        if (p.mask.at) score = _mm512_add_ps(score, p.mask.load(p.to_mask.at(row, head, 0) + s, p.length - s));
        _mm512_mask_storeu_ps(scores + s, is_there, score);
        largest = _mm512_max_ps(largest, _mm512_mask_mov_ps(none, is_there, score));
    }
    return _mm512_reduce_max_ps(largest);
}

// Scores become weights, which lack only their division by what is returned.
BF16_TARGET float position_weights(float* scores, int64_t length, float largest) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t s = 0; s < length; s += kWords) {
        const __mmask16 is_there = first_of(length - s);
        const __m512 below = _mm512_sub_ps(_mm512_maskz_loadu_ps(is_there, scores + s), _mm512_set1_ps(largest));
        const __m512 weight = _mm512_maskz_mov_ps(is_there, exp_below_zero(below));
        _mm512_mask_storeu_ps(scores + s, is_there, weight);
        total = _mm512_add_ps(total, weight);
    }
    return _mm512_reduce_add_ps(total);
}

// The weighted sum of N registers of values, which begin at v.
template <int N>
BF16_TARGET void position_values(const Attention& p, const float* weights, float inverse, const uint16_t* v,
                                 uint16_t* out, int64_t width) {
    __m512 sums[N];
    IN_REGISTERS
    for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_ps();
    for (int64_t s = 0; s < p.length; ++s, v += p.to_v.position) {
        const __m512 weight = _mm512_set1_ps(weights[s]);
        IN_REGISTERS
        for (int n = 0; n < N; ++n)
            sums[n] = _mm512_fmadd_ps(load_bf16(v + n * kWords, width - n * kWords), weight, sums[n]);
    }
    IN_REGISTERS
    for (int n = 0; n < N; ++n) {
        const __m512 sum = _mm512_mul_ps(sums[n], _mm512_set1_ps(inverse));
        _mm256_mask_storeu_epi16(out + n * kWords, first_of(width - n * kWords), (__m256i)_mm512_cvtneps_pbh(sum));
    }
}

// Heads start..end of all rows.
inline void one_position(int64_t start, int64_t end, void* context) {
    const Attention& p = *static_cast<Attention*>(context);
    std::vector<float> scores(p.length);
    for (int64_t each = start; each < end; ++each) {
        const int64_t row = each / p.heads, head = each % p.heads, kv = head / (p.heads / p.kv_heads);
        const float largest = position_scores(p, row, head, kv, scores.data());
        const float inverse = inverse_of(position_weights(scores.data(), p.length, largest_or_zero(largest)));
        const uint16_t* v = p.v + p.to_v.at(row, kv, 0);
        uint16_t* out = p.out_at(row, 0, head);
        int64_t w = 0;
        for (; w + 64 < p.width; w += 128)
            position_values<8>(p, scores.data(), inverse, v + w, out + w, p.width - w);
        if (w < p.width) position_values<4>(p, scores.data(), inverse, v + w, out + w, p.width - w);
    }
}

}  // namespace
