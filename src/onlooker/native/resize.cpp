// The 8-bit resize of torch (antialias, bilinear or bicubic), byte for byte, of only the window that is wanted.
//
// As there: weights are int16 with `precision` bits behind the point, rows are resized across first, rounded to 8 bits,
// and then down. Here a row is resized across once, and a ring of rows that stays in the cache feeds the way down.
//
// Plain C ABI, C++17, no libraries, no state. Compiled on the machine that runs it; see build.py.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include <immintrin.h>

#include "resize_weights.h"

extern "C" {

struct Picture {
    const uint8_t* data;
    int64_t height, width, channels;  // 1 to 4 channels, side by side
    int64_t stride;                   // bytes from row to row, at least those of a row
};
}

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define INLINE TARGET inline __attribute__((always_inline))

namespace {

constexpr int64_t kRows = 8;     // resized across together, so that weights are read once for all of them
constexpr int64_t kVectors = 4;  // summed together on the way down

// Sums to 0..255, in 32 bits.
INLINE __m512i levels(__m512i sums, __m128i precision) {
    __m512i whole = _mm512_sra_epi32(sums, precision);
    return _mm512_min_epi32(_mm512_max_epi32(whole, _mm512_setzero_si512()), _mm512_set1_epi32(255));
}

// Which byte of a pixel's inputs goes where: for every channel those of two weights, each widened to 16 bits.
INLINE __m512i spread(int64_t channels) {
    alignas(16) uint8_t from[16] = {};
    for (int64_t i = 0; i < 16; i += 2) from[i] = static_cast<uint8_t>(i / 2 % 2 * channels + i / 4);
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

INLINE __m512i load64(const uint8_t* bytes) {
    __m512i loaded = _mm512_loadu_si512(bytes);
    asm("" : "+v"(loaded));  // or it is loaded again for every use
    return loaded;
}

INLINE __m128i load16(const uint8_t* bytes) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)); }

// 16 bytes of each of 4 places.
INLINE __m512i load16s(const uint8_t* row, const int64_t* at) {
    const __m256i left = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(row + at[0])), load16(row + at[1]), 1);
    const __m256i right = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(row + at[2])), load16(row + at[3]), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1);
}

// kRows rows across, into kRows / 2 rows of the ring: an even row in the low half of 32 bits, the odd one above.
// The inputs of kPixels outputs come by 1 or 2 loads of 64 bytes where these reach all of them, else by one for each.
template <int64_t kLoads>
TARGET void across(const uint8_t* const* rows, const Picture& picture, const Axis& x, __m512i* const* pairs) {
    const int64_t channels = picture.channels;
    const __mmask64 is_used = 0x0001000100010001u * (0x5555u & ((1u << (4 * channels)) - 1));
    const __m512i pixel = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i taps_low = _mm512_add_epi32(pixel, pixel), taps_high = _mm512_add_epi32(taps_low, _mm512_set1_epi32(1));
    const __m512i pattern = spread(channels), two = _mm512_set1_epi8(static_cast<char>(2 * channels));
    const __m512i half = _mm512_set1_epi32(1 << (x.precision - 1));
    const __m128i precision = _mm_cvtsi64_si128(x.precision);
    const int16_t* weights = x.weights.data();
    for (int64_t i = 0; i * kPixels < x.count; ++i) {
        const int32_t* start = x.start.data() + i * kPixels;
        int64_t at[kPixels];
        for (int64_t k = 0; k < kPixels; ++k) at[k] = start[k] * channels;
        // Where the inputs of each pixel are in what was loaded, in each of 4 bytes.
        __m128i offsets = _mm_setr_epi32(0, 16, 32, 48);
        if (kLoads < kPixels) {
            const __m128i starts = _mm_loadu_si128(reinterpret_cast<const __m128i*>(start));
            const __m128i loads = kLoads == 1 ? _mm_shuffle_epi32(starts, 0) : _mm_shuffle_epi32(starts, 0xA0);
            offsets = _mm_mullo_epi32(_mm_sub_epi32(starts, loads), _mm_set1_epi32(static_cast<int32_t>(channels)));
            if (kLoads == 2) offsets = _mm_add_epi32(offsets, _mm_setr_epi32(0, 0, 64, 64));
        }
        offsets = _mm_mullo_epi32(offsets, _mm_set1_epi32(0x01010101));
        const __m512i low = _mm512_add_epi8(pattern, _mm512_permutexvar_epi32(pixel, _mm512_castsi128_si512(offsets)));
        const __m512i high = _mm512_add_epi8(low, two);
        __m512i sums[kRows];
        for (auto& sum : sums) sum = half;
        // Those of the next rows come meanwhile. They may not be there, which does not matter to a prefetch.
        for (int64_t r = 0; r < kRows; ++r) _mm_prefetch(rows[r] + at[0] + kRows * picture.stride, _MM_HINT_T1);
        for (int64_t block = 0; block < x.taps / 4; ++block, weights += 4 * kPixels) {
            __m512i taps = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
            const __m512i first = _mm512_permutexvar_epi32(taps_low, taps);
            const __m512i second = _mm512_permutexvar_epi32(taps_high, taps);
            for (int64_t r = 0; r < kRows; ++r) {
                const uint8_t* row = rows[r] + 4 * channels * block;
                const __m512i bytes = kLoads < kPixels ? load64(row + at[0]) : load16s(row, at);
                __m512i left, right;
                if (kLoads == 2) {
                    const __m512i more = load64(row + at[2]);
                    left = _mm512_maskz_permutex2var_epi8(is_used, bytes, low, more);
                    right = _mm512_maskz_permutex2var_epi8(is_used, bytes, high, more);
                } else {
                    left = _mm512_maskz_permutexvar_epi8(is_used, low, bytes);
                    right = _mm512_maskz_permutexvar_epi8(is_used, high, bytes);
                }
                sums[r] = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(sums[r], left, first), right, second);
            }
        }
        for (int64_t r = 0; r < kRows; r += 2) {
            const __m512i even = levels(sums[r], precision), odd = levels(sums[r + 1], precision);
            _mm512_store_si512(pairs[r / 2] + i, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
    }
}

int64_t loads_for(const Axis& x, int64_t channels) {
    for (int64_t loads : {1, 2}) {
        int64_t most = 0;  // from the first to the last of the outputs that share a load
        for (size_t i = 0; i < x.start.size(); i += kPixels / loads)
            most = std::max<int64_t>(most, x.start[i + kPixels / loads - 1] - x.start[i]);
        if ((most + 4) * channels <= 64) return loads;
    }
    return kPixels;
}

// One row of the result from pairs of rows in the ring.
TARGET void down(
    const __m512i* const* pairs, const int16_t* weights, const Axis& y, int64_t vectors, int64_t channels, uint8_t* row) {
    alignas(16) uint8_t from[16] = {};
    for (int64_t i = 0; i < kPixels * channels; ++i) from[i] = static_cast<uint8_t>(i / channels * 4 + i % channels);
    const __m128i packed = _mm_load_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i precision = _mm_cvtsi64_si128(y.precision);
    for (int64_t i = 0; i < vectors; i += kVectors) {
        __m512i sums[kVectors];
        for (auto& sum : sums) sum = _mm512_set1_epi32(1 << (y.precision - 1));
        for (int64_t block = 0; block < y.taps / 2; ++block) {
            int32_t two;
            std::memcpy(&two, weights + 2 * block, sizeof two);
            __m512i taps = _mm512_set1_epi32(two);
            for (int64_t v = 0; v < kVectors; ++v)
                sums[v] = _mm512_dpwssd_epi32(sums[v], _mm512_load_si512(pairs[block] + i + v), taps);
        }
        for (int64_t v = 0; v < kVectors; ++v) {  // 16 bytes, of which the next store takes back what is too much
            __m128i pixels = _mm_shuffle_epi8(_mm512_cvtepi32_epi8(levels(sums[v], precision)), packed);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(row + (i + v) * kPixels * channels), pixels);
        }
    }
}

// Rows of the picture that may be read a little past their end.
class Rows {
   public:
    Rows(const Picture& picture, int64_t reach) : picture_(picture), reach_(reach) {
        end_ = picture.data + (picture.height - 1) * picture.stride + picture.width * picture.channels;
    }

    // kRows rows from `top` on; below the last row it stands for those that are missing, which have no weight.
    void get(int64_t top, const uint8_t** rows) {
        int64_t length = picture_.width * picture_.channels;
        for (int64_t r = 0; r < kRows; ++r)
            rows[r] = picture_.data + std::min(top + r, picture_.height - 1) * picture_.stride;
        if (end_ - rows[kRows - 1] >= reach_) return;
        copies_.resize(kRows * std::max(reach_, length));
        for (int64_t r = 0; r < kRows; ++r) {
            uint8_t* copy = copies_.data() + r * std::max(reach_, length);
            rows[r] = static_cast<const uint8_t*>(std::memcpy(copy, rows[r], length));
        }
    }

   private:
    const Picture& picture_;
    int64_t reach_;
    const uint8_t* end_;
    std::vector<uint8_t> copies_;
};

}  // namespace

extern "C" {

int onlooker_can_resize() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vnni");
}

// planes[c][y][x] = table[c][picture[y][x][c]], of any number of channels.
void onlooker_look_up(const Picture* picture, const float* table, float* planes) {
    for (int64_t c = 0; c < picture->channels; ++c, table += 256)
        for (int64_t y = 0; y < picture->height; ++y, planes += picture->width) {
            const uint8_t* row = picture->data + y * picture->stride + c;
            for (int64_t x = 0; x < picture->width; ++x) planes[x] = table[row[x * picture->channels]];
        }
}

// `result` is [rows, columns, channels] of the resized picture. 0 when memory is short.
int onlooker_resize(
    const Picture* picture, const Part* rows, const Part* columns, int is_cubic, uint8_t* result) try {
    Axis x = make_axis(picture->width, *columns, is_cubic), y = make_axis(picture->height, *rows, is_cubic);
    arrange_across(x);
    arrange_down(y);
    const int64_t channels = picture->channels, length = x.count * channels;  // of a row of the result
    const int64_t vectors = (x.count + kPixels - 1) / kPixels, width = (vectors + kVectors - 1) / kVectors * kVectors;
    const int64_t pairs = y.taps / 2;
    int64_t slots = 1;
    while (slots < pairs + kRows / 2) slots *= 2;
    const int64_t last = *std::max_element(x.start.begin(), x.start.end());
    Rows source(*picture, (last + x.taps) * channels + 64);
    std::vector<uint8_t> memory(64 * (slots * width + 1) + 16 * width);
    auto* ring = reinterpret_cast<__m512i*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
    auto* row = reinterpret_cast<uint8_t*>(ring + slots * width);
    auto slot = [&](int64_t pair) { return ring + (pair & (slots - 1)) * width; };
    const int64_t loads = loads_for(x, channels);
    auto* step = loads == 1 ? across<1> : loads == 2 ? across<2> : across<kPixels>;
    std::vector<const __m512i*> needed(pairs);
    const uint8_t* given[kRows];
    __m512i* made[kRows / 2];
    int64_t done = y.start[0];  // pairs of rows
    for (int64_t i = 0; i < y.count; ++i) {
        for (; done < y.start[i] + pairs; done += kRows / 2) {
            source.get(2 * done, given);
            for (int64_t k = 0; k < kRows / 2; ++k) made[k] = slot(done + k);
            step(given, *picture, x, made);
        }
        for (int64_t k = 0; k < pairs; ++k) needed[k] = slot(y.start[i] + k);
        down(needed.data(), y.weights.data() + y.taps * i, y, vectors, channels, row);
        std::memcpy(result + i * length, row, length);
    }
    return 1;
} catch (const std::bad_alloc&) {  // an exception that left for Python would end the process
    return 0;
}
}
