// The 8-bit resize of torch (antialias, bilinear or bicubic), byte for byte, of only the window that is wanted.
//
// As there: weights are int16 with `precision` bits behind the point, rows are resized across first, rounded to 8 bits,
// and then down. Here a row is resized across once, and a ring of rows that stays in the cache feeds the way down.
//
// Plain C ABI, C++17, no libraries, no state. Compiled on the machine that runs it; see build.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ONLOOKER_X86 1
#include <immintrin.h>
#endif

extern "C" {

struct Picture {
    const uint8_t* data;
    int64_t height, width, channels;  // 1 to 4 channels, side by side
    int64_t stride;                   // bytes from row to row, at least those of a row
};

// Outputs `first` to `stop` of a direction that has `size` of them.
struct Part {
    int64_t size, first, stop;
};
}

#ifdef ONLOOKER_X86

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
#define INLINE TARGET inline __attribute__((always_inline))

namespace {

constexpr int64_t kRows = 8;     // resized across together, so that weights are read once for all of them
constexpr int64_t kPixels = 4;   // of a vector: 4 times 4 sums of 32 bits, one for each channel
constexpr int64_t kVectors = 4;  // summed together on the way down

// ---------------------------------------------------------------------------------------------------------- weights

// One direction: output i is the sum over k of weights[i][k] * input[start[i] + k].
struct Axis {
    std::vector<int32_t> start;
    std::vector<int16_t> weights;  // [outputs][taps]
    int64_t count, taps, precision;
};

double filter(double x, bool is_cubic) {
    x = std::abs(x);
    if (!is_cubic) return x < 1 ? 1 - x : 0;
    const double a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// In the order of operations of torch, since the last bit counts; the precision comes from all outputs, wanted or not.
Axis make_axis(int64_t inputs, const Part& part, bool is_cubic) {
    const double scale = static_cast<double>(inputs) / part.size, shrink = std::max(scale, 1.0);
    const double support = (is_cubic ? 2 : 1) * shrink, inverse = 1 / shrink;
    const int64_t most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
    std::vector<double> exact((part.stop - part.first) * most), current(most);
    Axis axis{{}, {}, part.stop - part.first, 0, 0};
    double peak = 0;
    for (int64_t i = 0; i < part.size; ++i) {
        const double center = scale * (i + 0.5);
        const int64_t start = std::max(static_cast<int64_t>(center - support + 0.5), int64_t{0});
        const int64_t stop = std::min(static_cast<int64_t>(center + support + 0.5), inputs);
        const int64_t taps = std::min(std::max(stop - start, int64_t{0}), most);
        double total = 0;
        for (int64_t k = 0; k < taps; ++k) total += current[k] = filter((k + start - center + 0.5) * inverse, is_cubic);
        for (int64_t k = 0; k < taps; ++k) peak = std::max(peak, current[k] /= total);
        if (i < part.first || i >= part.stop) continue;
        std::copy_n(current.data(), taps, exact.data() + (i - part.first) * most);
        axis.start.push_back(static_cast<int32_t>(start));
        axis.taps = std::max(axis.taps, taps);
    }
    while (axis.precision < 22 && static_cast<int>(0.5 + peak * (2 << axis.precision)) < 1 << 15) ++axis.precision;
    axis.weights.resize(axis.count * axis.taps);
    for (int64_t i = 0; i < axis.count; ++i)
        for (int64_t k = 0; k < axis.taps; ++k) {
            const double weight = exact[i * most + k] * (1 << axis.precision);
            axis.weights[i * axis.taps + k] = static_cast<int16_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
    return axis;
}

// Weights in fours, those of kPixels outputs side by side: [outputs / kPixels][blocks][kPixels][4].
void arrange_across(Axis& x) {
    const int64_t blocks = (x.taps + 3) / 4, count = (x.count + kPixels - 1) / kPixels * kPixels;
    std::vector<int16_t> arranged(count * blocks * 4);
    for (int64_t i = 0; i < x.count; ++i)
        for (int64_t k = 0; k < x.taps; ++k)
            arranged[((i / kPixels * blocks + k / 4) * kPixels + i % kPixels) * 4 + k % 4] = x.weights[i * x.taps + k];
    x.start.resize(count, x.start.back());
    x.weights.swap(arranged);
    x.taps = 4 * blocks;
}

// Weights of pairs of rows, 2i and 2i + 1; a weight of 0 comes before those that start with an odd row.
void arrange_down(Axis& y) {
    const int64_t taps = (y.taps / 2 + 1) * 2;
    std::vector<int16_t> arranged(y.count * taps);
    for (int64_t i = 0; i < y.count; ++i) {
        std::copy_n(y.weights.data() + i * y.taps, y.taps, arranged.data() + i * taps + y.start[i] % 2);
        y.start[i] /= 2;
    }
    y.weights.swap(arranged);
    y.taps = taps;
}

// ----------------------------------------------------------------------------------------------------------- passes

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

// 64 bytes with the inputs of kPixels outputs: those of one place, or of a place for each.
template <bool kIsNear>
INLINE __m512i inputs(const uint8_t* row, const int64_t* at) {
    auto load = [row, at](int i) TARGET { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at[i])); };
    __m512i bytes;
    if (kIsNear) {
        bytes = _mm512_loadu_si512(row + at[0]);
    } else {
        __m256i left = _mm256_inserti128_si256(_mm256_castsi128_si256(load(0)), load(1), 1);
        __m256i right = _mm256_inserti128_si256(_mm256_castsi128_si256(load(2)), load(3), 1);
        bytes = _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1);
    }
    asm("" : "+v"(bytes));  // or it is loaded again for every use
    return bytes;
}

// kRows rows across, into kRows / 2 rows of the ring: an even row in the low half of 32 bits, the odd one above.
template <bool kIsNear>
TARGET void across(const uint8_t* const* rows, int64_t channels, const Axis& x, __m512i* const* pairs) {
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
        // where the inputs of each pixel are in the 64 bytes, in each of 4 bytes
        __m128i offsets = _mm_setr_epi32(0, 16, 32, 48);
        if (kIsNear) {
            offsets = _mm_sub_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(start)), _mm_set1_epi32(start[0]));
            offsets = _mm_mullo_epi32(offsets, _mm_set1_epi32(static_cast<int32_t>(channels)));
        }
        offsets = _mm_mullo_epi32(offsets, _mm_set1_epi32(0x01010101));
        const __m512i low = _mm512_add_epi8(pattern, _mm512_permutexvar_epi32(pixel, _mm512_castsi128_si512(offsets)));
        const __m512i high = _mm512_add_epi8(low, two);
        __m512i sums[kRows];
        for (auto& sum : sums) sum = half;
        for (int64_t block = 0; block < x.taps / 4; ++block, weights += 4 * kPixels) {
            __m512i taps = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
            const __m512i first = _mm512_permutexvar_epi32(taps_low, taps);
            const __m512i second = _mm512_permutexvar_epi32(taps_high, taps);
            for (int64_t r = 0; r < kRows; ++r) {
                const __m512i bytes = inputs<kIsNear>(rows[r] + 4 * channels * block, at);
                sums[r] = _mm512_dpwssd_epi32(sums[r], _mm512_maskz_permutexvar_epi8(is_used, low, bytes), first);
                sums[r] = _mm512_dpwssd_epi32(sums[r], _mm512_maskz_permutexvar_epi8(is_used, high, bytes), second);
            }
        }
        for (int64_t r = 0; r < kRows; r += 2) {
            const __m512i even = levels(sums[r], precision), odd = levels(sums[r + 1], precision);
            _mm512_store_si512(pairs[r / 2] + i, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
    }
}

// Whether 64 bytes always reach all inputs of kPixels outputs and 4 weights.
bool is_near(const Axis& x, int64_t channels) {
    int64_t most = 0;
    for (int64_t i = 0; i < x.count; i += kPixels)
        most = std::max<int64_t>(most, x.start[i + kPixels - 1] - x.start[i]);
    return (most + 4) * channels <= 64;
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

#endif

extern "C" {

int onlooker_can_resize() {
#ifdef ONLOOKER_X86
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

#ifdef ONLOOKER_X86

// `result` is [rows, columns, channels] of the resized picture.
void onlooker_resize(
    const Picture* picture, const Part* rows, const Part* columns, int is_cubic, uint8_t* result) {
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
    auto* step = is_near(x, channels) ? across<true> : across<false>;
    std::vector<const __m512i*> needed(pairs);
    const uint8_t* given[kRows];
    __m512i* made[kRows / 2];
    int64_t done = y.start[0];  // pairs of rows
    for (int64_t i = 0; i < y.count; ++i) {
        for (; done < y.start[i] + pairs; done += kRows / 2) {
            source.get(2 * done, given);
            for (int64_t k = 0; k < kRows / 2; ++k) made[k] = slot(done + k);
            step(given, channels, x, made);
        }
        for (int64_t k = 0; k < pairs; ++k) needed[k] = slot(y.start[i] + k);
        down(needed.data(), y.weights.data() + y.taps * i, y, vectors, channels, row);
        std::memcpy(result + i * length, row, length);
    }
}

#endif
}
