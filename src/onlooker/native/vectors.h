// What the kernels share: the processor's vectors, and numbers of 16 bits.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

// What the shared functions may use is part of what those of both kinds may: else they would not be inlined.
#define WIDE_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define VNNI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

// Before a loop of constant bounds that goes through an array of registers: unrolled early, or gcc keeps them in memory.
#define IN_REGISTERS _Pragma("GCC unroll 16")

namespace {

// Bring a line of the next tile's weights nearer. The rows of a tile are too short for the processor to foresee where
// it goes on: asking one tile ahead takes int4 from 8 to 19 GB/s where memory gives 20.
inline void ask_for(const void* place) { _mm_prefetch(static_cast<const char*>(place), _MM_HINT_T1); }

inline float from_bf16(uint16_t value) {
    uint32_t bits = static_cast<uint32_t>(value) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

WIDE_TARGET inline __m512bh load_bh(const uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }

// The first `count` of 16 places; none of them where it is not above 0.
inline __mmask16 first_of(int64_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}

WIDE_TARGET inline __m512bh load_some_bh(const uint16_t* from, int64_t count) {
    return (__m512bh)_mm512_maskz_loadu_epi16(count >= 32 ? ~0u : (1u << count) - 1, from);
}

WIDE_TARGET inline __m512 load_some(const float* from, int64_t count) {
    return _mm512_maskz_loadu_ps(first_of(count), from);
}

WIDE_TARGET inline __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

WIDE_TARGET inline __m512 load_bf16(const uint16_t* from, int64_t count) {
    return widen(_mm256_maskz_loadu_epi16(first_of(count), from));
}

// 16 floats as bfloat16, to the nearest, ties to even; for processors that have no instruction for it.
WIDE_TARGET inline __m256i round_bf16(__m512 values) {
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, is_nan, quiet), 16));
}

// Numbers that are float or bfloat16 in memory, and float in registers.
struct Floats {
    void* at;
    bool is_half;

    WIDE_TARGET __m512 load(int64_t place, int64_t count) const {
        if (is_half) return load_bf16(static_cast<const uint16_t*>(at) + place, count);
        return load_some(static_cast<const float*>(at) + place, count);
    }

    WIDE_TARGET void store(int64_t place, int64_t count, __m512 values) const {
        if (is_half)
            _mm256_mask_storeu_epi16(static_cast<uint16_t*>(at) + place, first_of(count), round_bf16(values));
        else
            _mm512_mask_storeu_ps(static_cast<float*>(at) + place, first_of(count), values);
    }
};

// Rows of 16 words become columns: 16 outputs for each of 16 steps.
WIDE_TARGET inline void turn(__m512i (&words)[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(words[i], words[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(words[i], words[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            words[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            words[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; ++j) {
            t[i + j] = _mm512_shuffle_i32x4(words[i + j], words[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(words[i + j], words[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; ++j) {
        words[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        words[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
}

}  // namespace
