// Activations as bytes, with a scale for every 64 inputs.
#pragma once

#include <atomic>
#include <vector>

#include "pool.h"
#include "vectors.h"

namespace {

constexpr float kNothing = 1e-30f;  // below it a product could not be seen: taken as zero

// x = scale * byte, with a scale for every 64 inputs: with one for the whole row the error would be half as large again,
// and a single large input would spoil the row.
struct ByteRows {
    int64_t padded;             // inputs, up to a multiple of 128
    std::vector<int8_t> bytes;  // [rows, padded]
    std::vector<float> scale;   // [rows, padded / 64]
    std::vector<float> totals;  // [rows, padded / 64]: sums of 64 inputs
    std::vector<int32_t> sums;  // [rows, padded / 64]: the same in units of the scale

    int64_t pieces() const { return padded / 64; }
    int64_t rows() const { return static_cast<int64_t>(bytes.size()) / padded; }
};

// One row; false when a value is not finite.
WIDE_TARGET bool byte_row(const Floats& x, int64_t inputs, ByteRows& out, int64_t row) {
    for (int64_t start = 0; start < inputs; start += 64) {
        const int64_t count = inputs - start < 64 ? inputs - start : 64, piece = (row * out.padded + start) / 64;
        __m512 values[4], largest = _mm512_setzero_ps();
        __mmask16 broken = 0;
        for (int i = 0; i < 4; ++i) {
            const int64_t left = count - 16 * i;
            values[i] = left > 0 ? x.load(row * inputs + start + 16 * i, left) : _mm512_setzero_ps();
            broken |= _mm512_fpclass_ps_mask(values[i], 0x99);  // NaN of both kinds, both infinities
            largest = _mm512_max_ps(largest, _mm512_abs_ps(values[i]));
        }
        if (broken) return false;
        const float top = _mm512_reduce_max_ps(largest);
        if (top < kNothing) continue;
        const __m512 inverse = _mm512_set1_ps(127.0f / top);
        __m512i total = _mm512_setzero_si512();
        for (int i = 0; i < 4; ++i) {
            const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(values[i], inverse));
            int8_t* to = &out.bytes[row * out.padded + start + 16 * i];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(whole));
            total = _mm512_add_epi32(total, whole);
        }
        out.scale[piece] = top / 127.0f;
        out.sums[piece] = _mm512_reduce_add_epi32(total);
        out.totals[piece] = static_cast<float>(out.sums[piece]) * out.scale[piece];
    }
    return true;
}

// All rows; false when a value is not finite.
inline bool byte_rows(const Floats& x, int64_t rows, int64_t inputs, ByteRows& out, int threads) {
    out.padded = (inputs + 127) / 128 * 128;
    out.bytes.assign(rows * out.padded, 0);
    out.scale.assign(rows * out.pieces(), 0.0f);
    out.totals.assign(rows * out.pieces(), 0.0f);
    out.sums.assign(rows * out.pieces(), 0);
    struct Work {
        const Floats& x;
        int64_t inputs;
        ByteRows& out;
        std::atomic<bool> is_finite{true};
    } work{x, inputs, out};
    Pool::shared().run(threads, rows, 16, [](int64_t start, int64_t end, void* context) {
        Work& work = *static_cast<Work*>(context);
        for (int64_t row = start; row < end; ++row)
            if (!byte_row(work.x, work.inputs, work.out, row)) work.is_finite = false;
    }, &work);
    return work.is_finite;
}

}  // namespace
