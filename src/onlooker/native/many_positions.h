// Attention of many positions: keys and values of a head are laid out once, then up to 12 positions at a time pass along
// them, as rows of a product along its panels. Scores and sums are float, weights of values bfloat16.
#pragma once

#include "attention.h"

namespace {

constexpr int kWide = 32;  // keys, or numbers of the width, of a panel: two registers
constexpr int kTall = 12;  // positions in registers at a time, at most

// R rows [pairs][R] times a panel [pairs][kWide], where a word is two numbers that lie along the sum: y [R][kWide].
template <int R>
BF16_TARGET void rows_times_panel(const uint32_t* x, const uint32_t* panel, int64_t pairs, float* y) {
    __m512 one[R], two[R];
    IN_REGISTERS
    for (int r = 0; r < R; ++r) one[r] = two[r] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; ++pair, panel += kWide, x += R) {
        const __m512bh first = (__m512bh)_mm512_loadu_si512(panel), second = (__m512bh)_mm512_loadu_si512(panel + 16);
        IN_REGISTERS
        for (int r = 0; r < R; ++r) {
            const __m512bh value = (__m512bh)_mm512_set1_epi32(static_cast<int32_t>(x[r]));
            one[r] = _mm512_dpbf16_ps(one[r], first, value), two[r] = _mm512_dpbf16_ps(two[r], second, value);
        }
    }
    IN_REGISTERS
    for (int r = 0; r < R; ++r) _mm512_storeu_ps(y + r * kWide, one[r]), _mm512_storeu_ps(y + r * kWide + 16, two[r]);
}

using RowsTimesPanel = void (*)(const uint32_t*, const uint32_t*, int64_t, float*);

inline RowsTimesPanel kernel_of(int64_t tall) {
    static constexpr RowsTimesPanel kernels[kTall] = {
        rows_times_panel<1>, rows_times_panel<2>, rows_times_panel<3>,  rows_times_panel<4>,
        rows_times_panel<5>, rows_times_panel<6>, rows_times_panel<7>,  rows_times_panel<8>,
        rows_times_panel<9>, rows_times_panel<10>, rows_times_panel<11>, rows_times_panel<12>};
    return kernels[tall - 1];
}

// Keys and values of one head, and what is worked on of `tall` positions.
struct Head {
    const Attention& p;
    int64_t pairs, panels, blocks, tall;
    std::vector<uint32_t> keys;     // [panels of keys][pairs of the width][kWide]
    std::vector<uint32_t> values;   // [blocks of the width][pairs of keys][kWide]
    std::vector<uint32_t> asking;   // [pairs of the width][tall]
    std::vector<uint32_t> weights;  // [pairs of keys][tall]
    std::vector<float> scores;      // [panels of keys][tall][kWide]

    explicit Head(const Attention& p)
        : p(p), pairs((p.width + 1) / 2), panels((p.length + kWide - 1) / kWide), blocks((p.width + kWide - 1) / kWide) {
        const int64_t tiles = (p.positions + kTall - 1) / kTall;
        tall = (p.positions + tiles - 1) / tiles;
        keys.resize(panels * pairs * kWide);
        values.resize(blocks * panels * 16 * kWide);
        asking.resize(pairs * tall);
        weights.resize(panels * 16 * tall);
        scores.resize(panels * tall * kWide);
    }

    BF16_TARGET void lay_out_keys(const uint16_t* from) {
        for (int64_t s = 0; s < panels * kWide; s += 16)
            for (int64_t pair = 0; pair < pairs; pair += 16) {
                __m512i words[16];
                for (int c = 0; c < 16; ++c) {
                    const int64_t left = s + c < p.length ? p.width - 2 * pair : 0;
                    words[c] = (__m512i)load_some_bh(from + (s + c) * p.to_k.position + 2 * pair, left);
                }
                turn(words);
                uint32_t* to = &keys[(s / kWide * pairs + pair) * kWide + s % kWide];
                for (int64_t step = 0; step < std::min<int64_t>(16, pairs - pair); ++step)
                    _mm512_storeu_si512(to + step * kWide, words[step]);
            }
    }

    BF16_TARGET void lay_out_values(const uint16_t* from) {
        for (int64_t s = 0; s < panels * kWide; s += 2)
            for (int64_t w = 0; w < blocks * kWide; w += 16) {
                const uint16_t* first = from + s * p.to_v.position + w;
                const __mmask16 has_one = s < p.length ? first_of(p.width - w) : 0;
                const __mmask16 has_two = s + 1 < p.length ? first_of(p.width - w) : 0;
                const __m512i one = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(has_one, first));
                const __m512i two = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(has_two, first + p.to_v.position));
                uint32_t* to = &values[(w / kWide * panels * 16 + s / 2) * kWide + w % kWide];
                _mm512_storeu_si512(to, _mm512_or_si512(one, _mm512_slli_epi32(two, 16)));
            }
    }

    BF16_TARGET void take(const uint16_t* from, int64_t count) {
        for (int64_t pair = 0; pair < pairs; pair += 16) {
            __m512i words[16];
            for (int r = 0; r < 16; ++r) {
                const int64_t left = r < count ? p.width - 2 * pair : 0;
                words[r] = (__m512i)load_some_bh(from + r * p.to_q.position + 2 * pair, left);
            }
            turn(words);
            for (int64_t step = 0; step < std::min<int64_t>(16, pairs - pair); ++step)
                _mm512_mask_storeu_epi32(&asking[(pair + step) * tall], first_of(tall), words[step]);
        }
    }

    // Scale and mask the scores of one position; the largest of them is returned.
    BF16_TARGET float finish_scores(int64_t r, int64_t seen, int64_t mask) {
        const __m512 none = _mm512_set1_ps(-__builtin_inff());
        __m512 largest = none;
        for (int64_t s = 0; s < seen; s += 16) {
            float* at = &scores[(s / kWide * tall + r) * kWide + s % kWide];
            __m512 score = _mm512_mul_ps(_mm512_loadu_ps(at), _mm512_set1_ps(p.scale));
            if (p.mask.at) score = _mm512_add_ps(score, p.mask.load(mask + s, p.length - s));
            score = _mm512_mask_mov_ps(none, first_of(seen - s), score);
            _mm512_storeu_ps(at, score);
            largest = _mm512_max_ps(largest, score);
        }
        return largest_or_zero(_mm512_reduce_max_ps(largest));
    }

    // Scores of `count` panels become weights as the product with the values takes them; `totals` are their sums.
    BF16_TARGET void weigh(int64_t count, const int64_t* seen, const float* largest, __m512* totals) {
        for (int64_t panel = 0; panel < count; ++panel) {
            __m512i words[16];
            for (int64_t r = 0; r < 16; ++r) words[r] = _mm512_setzero_si512();
            for (int64_t r = 0; r < tall; ++r) {
                const float* at = &scores[(panel * tall + r) * kWide];
                const int64_t left = seen[r] - panel * kWide;
                const __m512 top = _mm512_set1_ps(largest[r]);
                const __m512 one = exp_below_zero(_mm512_sub_ps(_mm512_loadu_ps(at), top));
                const __m512 two = exp_below_zero(_mm512_sub_ps(_mm512_loadu_ps(at + 16), top));
                const __m512 first = _mm512_maskz_mov_ps(first_of(left), one);
                const __m512 second = _mm512_maskz_mov_ps(first_of(left - 16), two);
                totals[r] = _mm512_add_ps(totals[r], _mm512_add_ps(first, second));
                words[r] = (__m512i)_mm512_cvtne2ps_pbh(second, first);
            }
            turn(words);
            for (int step = 0; step < 16; ++step)
                _mm512_mask_storeu_epi32(&weights[(panel * 16 + step) * tall], first_of(tall), words[step]);
        }
    }

    // Positions first.. of a head that asks.
    BF16_TARGET void answer(int64_t row, int64_t head, int64_t first) {
        const RowsTimesPanel kernel = kernel_of(tall);
        const int64_t count = std::min(tall, p.positions - first);
        int64_t seen[kTall] = {};
        float largest[kTall] = {};
        __m512 totals[kTall];
        for (int64_t r = 0; r < tall; ++r) {
            totals[r] = _mm512_setzero_ps();
            if (r < count) seen[r] = p.is_causal ? p.length - p.positions + first + r + 1 : p.length;
        }
        const int64_t some = (seen[count - 1] + kWide - 1) / kWide;
        take(p.q + p.to_q.at(row, head, first), count);
        for (int64_t panel = 0; panel < some; ++panel)
            kernel(asking.data(), &keys[panel * pairs * kWide], pairs, &scores[panel * tall * kWide]);
        for (int64_t r = 0; r < count; ++r) largest[r] = finish_scores(r, seen[r], p.to_mask.at(row, head, first + r));
        weigh(some, seen, largest, totals);
        alignas(64) float sums[kTall * kWide];
        for (int64_t block = 0; block < blocks; ++block) {
            kernel(weights.data(), &values[block * panels * 16 * kWide], some * 16, sums);
            for (int64_t r = 0; r < count; ++r) {
                const __m512 inverse = _mm512_set1_ps(inverse_of(_mm512_reduce_add_ps(totals[r])));
                for (int64_t w = block * kWide; w < std::min(p.width, (block + 1) * kWide); w += 16) {
                    const __m512 value = _mm512_mul_ps(_mm512_load_ps(&sums[r * kWide + w % kWide]), inverse);
                    _mm256_mask_storeu_epi16(p.out_at(row, first + r, head) + w, first_of(p.width - w),
                                             (__m256i)_mm512_cvtneps_pbh(value));
                }
            }
        }
    }
};

// Heads of keys start..end of all rows.
inline void many_positions(int64_t start, int64_t end, void* context) {
    const Attention& p = *static_cast<Attention*>(context);
    const int64_t group = p.heads / p.kv_heads;
    Head head(p);
    for (int64_t each = start; each < end; ++each) {
        const int64_t row = each / p.kv_heads, kv = each % p.kv_heads;
        head.lay_out_keys(p.k + p.to_k.at(row, kv, 0));
        head.lay_out_values(p.v + p.to_v.at(row, kv, 0));
        for (int64_t one = kv * group; one < (kv + 1) * group; ++one)
            for (int64_t first = 0; first < p.positions; first += head.tall) head.answer(row, one, first);
    }
}

}  // namespace
