// Products of a few rows with a large weight matrix, read once, as it lies in the checkpoint: bfloat16, int8 and int4.
//
// Letters: M rows of activations, N outputs, K inputs. Every weight is [N, K], row after row, so nothing is packed and
// a mapped file can be used as it is. Decoding waits for memory; all that matters is that a row of weights streams
// through once while a few rows of activations stay in the first-level cache.
//
// Plain C ABI, C++17, no libraries. Compiled on the machine that runs it; see build.py.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ONLOOKER_X86 1
#include <immintrin.h>
#include <unistd.h>
#endif

namespace {

// ---------------------------------------------------------------------------------------------------------- threads

// Threads that wait for the next product: briefly awake, then asleep.
class Pool {
   public:
    // Run work(start, end, context) over 0..total in blocks of `step`, on `threads` threads with the caller as one.
    using Work = void (*)(int64_t, int64_t, void*);

    void run(int threads, int64_t total, int64_t step, Work work, void* context) {
        std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
        // Another Python thread is in here, or the threads stayed behind in the parent of a fork: do it alone.
        if (threads <= 1 || total <= step || !owner.owns_lock() || !same_process()) {
            work(0, total, context);
            return;
        }
        while (static_cast<int>(workers_.size()) < threads - 1) {
            int index = static_cast<int>(workers_.size());
            workers_.emplace_back([this, index] { wait_for_work(index); });
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = work, context_ = context, total_ = total, step_ = step;
            wanted_ = threads - 1;
            next_.store(0, std::memory_order_relaxed);
            running_.store(wanted_, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        start_.notify_all();
        take_blocks();
        for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin)
            if (spin > 2000) std::this_thread::yield();
    }

    // Threads are never joined: the interpreter may be gone when static objects go.
    static Pool& shared() {
        static Pool* pool = new Pool;
        return *pool;
    }

   private:
    bool same_process() {
#ifdef ONLOOKER_X86
        int now = static_cast<int>(getpid());
        if (process_ == 0) process_ = now;
        return process_ == now;
#else
        return true;
#endif
    }

    void take_blocks() {
        for (;;) {
            int64_t start = next_.fetch_add(step_, std::memory_order_relaxed);
            if (start >= total_) return;
            work_(start, start + step_ < total_ ? start + step_ : total_, context_);
        }
    }

    void wait_for_work(int index) {
        uint64_t seen = 0;
        for (;;) {
            for (int spin = 0; spin < 4000 && round_.load(std::memory_order_acquire) == seen; ++spin) relax();
            bool mine;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                start_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
                seen = round_.load(std::memory_order_relaxed);
                mine = index < wanted_;
            }
            if (!mine) continue;
            take_blocks();
            running_.fetch_sub(1, std::memory_order_release);
        }
    }

    static void relax() {
#ifdef ONLOOKER_X86
        _mm_pause();
#endif
    }

    std::mutex owner_, mutex_;
    std::condition_variable start_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int64_t> next_{0};
    std::atomic<int> running_{0};
    Work work_ = nullptr;
    void* context_ = nullptr;
    int64_t total_ = 0, step_ = 1;
    int wanted_ = 0, process_ = 0;
};

#ifdef ONLOOKER_X86

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define VNNI_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

constexpr int kColumns = 4;       // rows of weights that stream side by side

// Bring a line of the next tile's weights nearer. The rows of a tile are too short for the processor to foresee where
// it goes on: asking one tile ahead takes int4 from 8 to 19 GB/s where memory gives 20.
inline void ask_for(const void* place) { _mm_prefetch(static_cast<const char*>(place), _MM_HINT_T1); }

inline float from_bf16(uint16_t value) {
    uint32_t bits = static_cast<uint32_t>(value) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

inline uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);  // to the nearest, ties to even
}

// --------------------------------------------------------------------------------------------------------- bfloat16

struct Bf16Product {
    const uint16_t *x, *weight, *bias;
    uint16_t* y;
    int64_t rows, outputs, inputs;
};

BF16_TARGET inline __m512bh load_bh(const uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }

// R rows of activations times C rows of weights, into y.
template <int R, int C>
BF16_TARGET void bf16_tile(const Bf16Product& p, int64_t row, int64_t column) {
    __m512 sums[C][R];
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) sums[c][r] = _mm512_setzero_ps();
    const uint16_t* weight = p.weight + column * p.inputs;
    const uint16_t* x = p.x + row * p.inputs;
    int64_t k = 0;
    for (; k + 32 <= p.inputs; k += 32) {
        __m512bh values[R];
        for (int r = 0; r < R; ++r) values[r] = load_bh(x + r * p.inputs + k);
        for (int c = 0; c < C; ++c) {
            const uint16_t* from = weight + c * p.inputs + k;
            ask_for(from + C * p.inputs);
            __m512bh w = load_bh(from);
            for (int r = 0; r < R; ++r) sums[c][r] = _mm512_dpbf16_ps(sums[c][r], w, values[r]);
        }
    }
    if (k < p.inputs) {
        __mmask32 rest = static_cast<__mmask32>((1ull << (p.inputs - k)) - 1);
        for (int c = 0; c < C; ++c) {
            __m512bh w = (__m512bh)_mm512_maskz_loadu_epi16(rest, weight + c * p.inputs + k);
            for (int r = 0; r < R; ++r) {
                __m512bh value = (__m512bh)_mm512_maskz_loadu_epi16(rest, x + r * p.inputs + k);
                sums[c][r] = _mm512_dpbf16_ps(sums[c][r], w, value);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            float sum = _mm512_reduce_add_ps(sums[c][r]);
            if (p.bias) sum += from_bf16(p.bias[column + c]);
            p.y[(row + r) * p.outputs + column + c] = to_bf16(sum);
        }
}

// -------------------------------------------------------------------------------------------- activations in integers

VNNI_TARGET inline __m512 load_some(const float* from, int64_t count) {
    return _mm512_maskz_loadu_ps(count >= 16 ? 0xffff : static_cast<__mmask16>((1u << count) - 1), from);
}

// The largest magnitude of x; below zero when a value is not finite.
VNNI_TARGET float largest_of(const float* x, int64_t count) {
    __m512 largest = _mm512_setzero_ps();
    __mmask16 broken = 0;
    for (int64_t k = 0; k < count; k += 16) {
        const __m512 value = load_some(x + k, count - k);
        broken |= _mm512_fpclass_ps_mask(value, 0x99);  // NaN of both kinds, both infinities
        largest = _mm512_max_ps(largest, _mm512_abs_ps(value));
    }
    return broken ? -1.0f : _mm512_reduce_max_ps(largest);
}

constexpr float kNothing = 1e-30f;  // below it a product could not be seen: taken as zero

// x = scale * (256 * high + low): 16 bits against the largest of a row, finer than bfloat16 where it counts, so that
// a row's answer has only the error of its weights. The second byte product is free while memory is waited for.
struct SplitRows {
    int64_t padded;               // inputs, up to a multiple of 64
    std::vector<int8_t> bytes;    // a row: high bytes of 64 inputs, their low bytes, then those of the next 64, ...
    std::vector<float> scale;     // a row
    std::vector<int64_t> totals;  // a row: the sum of its values, in units of the scale

    const int8_t* row(int64_t number) const { return &bytes[number * padded * 2]; }
};

// Whether every value was finite; if not, the rows are of no use.
VNNI_TARGET bool split_rows(const float* x, int64_t rows, int64_t inputs, SplitRows& out) {
    out.padded = (inputs + 63) / 64 * 64;
    out.bytes.assign(rows * out.padded * 2, 0);
    out.scale.assign(rows, 0.0f);
    out.totals.assign(rows, 0);
    for (int64_t row = 0; row < rows; ++row) {
        const float* from = x + row * inputs;
        const float top = largest_of(from, inputs);
        if (top < 0) return false;
        if (top < kNothing) continue;
        out.scale[row] = top / 32512.0f;  // 127 * 256
        const __m512 inverse = _mm512_set1_ps(32512.0f / top);
        for (int64_t k = 0; k < inputs; k += 16) {
            const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(load_some(from + k, inputs - k), inverse));
            const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
            const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
            int8_t* to = &out.bytes[row * out.padded * 2 + k / 64 * 128 + k % 64];
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 64), _mm512_cvtepi32_epi8(low));
            out.totals[row] += _mm512_reduce_add_epi32(whole);
        }
    }
    return true;
}

// x = scale * byte, with a scale for every 64 inputs: next to weights of 4 bits this error is nothing.
struct ByteRows {
    int64_t padded;             // inputs, up to a multiple of 128
    std::vector<int8_t> bytes;  // [rows, padded]
    std::vector<float> scale;   // [rows, padded / 64]
    std::vector<float> totals;  // [rows, padded / 64]: sums of 64 inputs
};

VNNI_TARGET bool byte_rows(const float* x, int64_t rows, int64_t inputs, ByteRows& out) {
    out.padded = (inputs + 127) / 128 * 128;
    out.bytes.assign(rows * out.padded, 0);
    out.scale.assign(rows * out.padded / 64, 0.0f);
    out.totals.assign(rows * out.padded / 64, 0.0f);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t start = 0; start < inputs; start += 64) {
            const float* from = x + row * inputs + start;
            const int64_t count = inputs - start < 64 ? inputs - start : 64, piece = (row * out.padded + start) / 64;
            const float top = largest_of(from, count);
            if (top < 0) return false;
            if (top < kNothing) continue;
            const __m512 inverse = _mm512_set1_ps(127.0f / top);
            int32_t total = 0;
            for (int64_t k = 0; k < count; k += 16) {
                const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(load_some(from + k, count - k), inverse));
                int8_t* to = &out.bytes[row * out.padded + start + k];
                _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(whole));
                total += _mm512_reduce_add_epi32(whole);
            }
            out.scale[piece] = top / 127.0f;
            out.totals[piece] = static_cast<float>(total) * out.scale[piece];
        }
    return true;
}

// ------------------------------------------------------------------------------------------------------------- int8

struct Int8Product {
    const SplitRows* x;
    const int8_t* weight;
    const float *scale, *bias;
    float* y;
    int64_t rows, outputs, inputs;
};

// 256 * high + low, summed over the lanes in 64 bits: exact, whatever the length.
VNNI_TARGET inline int64_t sum_split(__m512i high, __m512i low) {
    const __m512i h = _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(high)),
                                       _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(high, 1)));
    const __m512i l = _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(low)),
                                       _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(low, 1)));
    return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_slli_epi64(h, 8), l));
}

template <int R, int C>
VNNI_TARGET void int8_tile(const Int8Product& p, int64_t row, int64_t column) {
    __m512i high[C][R], low[C][R];
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) high[c][r] = low[c][r] = _mm512_setzero_si512();
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));  // int8 -> uint8 by adding 128
    const int8_t *weight = p.weight + column * p.inputs, *x = p.x->row(row);
    const int64_t stride = p.x->padded * 2;
    int64_t k = 0;
    for (; k + 64 <= p.inputs; k += 64)
        for (int c = 0; c < C; ++c) {
            const int8_t* from = weight + c * p.inputs + k;
            ask_for(from + C * p.inputs);
            const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(from), sign);
            for (int r = 0; r < R; ++r) {
                high[c][r] = _mm512_dpbusd_epi32(high[c][r], w, _mm512_loadu_si512(x + r * stride + 2 * k));
                low[c][r] = _mm512_dpbusd_epi32(low[c][r], w, _mm512_loadu_si512(x + r * stride + 2 * k + 64));
            }
        }
    if (k < p.inputs)
        for (int c = 0; c < C; ++c) {
            const __mmask64 rest = (1ull << (p.inputs - k)) - 1;
            const __m512i w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, weight + c * p.inputs + k), sign);
            for (int r = 0; r < R; ++r) {
                high[c][r] = _mm512_dpbusd_epi32(high[c][r], w, _mm512_loadu_si512(x + r * stride + 2 * k));
                low[c][r] = _mm512_dpbusd_epi32(low[c][r], w, _mm512_loadu_si512(x + r * stride + 2 * k + 64));
            }
        }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            const int64_t sum = sum_split(high[c][r], low[c][r]) - 128 * p.x->totals[row + r];
            const float value = static_cast<float>(sum) * (p.x->scale[row + r] * p.scale[column + c]);
            p.y[(row + r) * p.outputs + column + c] = p.bias ? value + p.bias[column + c] : value;
        }
}

// ------------------------------------------------------------------------------------------------------------- int4

// A weight is (code - 8) * scale + zero, with scale and zero for every 64 or 128 inputs. 64 bytes hold 128 codes: the
// first 64 in the low halves, the next 64 in the high halves.
struct Int4Product {
    const ByteRows* x;
    const uint8_t* weight;
    const uint16_t *scale, *zero;  // bfloat16 [N, groups]
    const float* bias;
    float* y;
    int64_t rows, outputs, groups;
    int repeat;  // how many times 64 inputs a group has: 1 or 2
};

// What does not depend on the codes: the factor of every 64 inputs, and the sum of (zero - 8 * scale) * x.
VNNI_TARGET float int4_factors(const Int4Product& p, int64_t row, int64_t column, float* factors) {
    const int64_t pieces = p.x->padded / 64;
    const uint16_t *scales = p.scale + column * p.groups, *zeros = p.zero + column * p.groups;
    const float *x_scale = &p.x->scale[row * pieces], *totals = &p.x->totals[row * pieces];
    // Of a byte the high half is taken where it stands: 16 times the code.
    const __m512 halves = _mm512_castsi512_ps(_mm512_set1_epi64(0x3d8000003f800000));  // 1, 1/16, 1, 1/16, ...
    __m512 sum = _mm512_setzero_ps();
    for (int64_t piece = 0; piece < pieces; piece += 16) {
        const int64_t count = pieces - piece < 16 ? pieces - piece : 16;
        __m512 scale, zero;
        if (p.repeat == 1) {
            const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
            const __m256i s = _mm256_maskz_loadu_epi16(mask, scales + piece);
            const __m256i z = _mm256_maskz_loadu_epi16(mask, zeros + piece);
            scale = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(s), 16));
            zero = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(z), 16));
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
        _mm512_mask_storeu_ps(factors + piece, static_cast<__mmask16>((1u << count) - 1), factor);
    }
    return _mm512_reduce_add_ps(sum);
}

template <int R, int C>
VNNI_TARGET void int4_tile(const Int4Product& p, int64_t row, int64_t column, float* factors) {
    const int64_t padded = p.x->padded, pieces = padded / 64;
    for (int64_t group = 0; group < C * p.groups; group += 32) {  // a cache line
        ask_for(p.scale + (column + C) * p.groups + group);
        ask_for(p.zero + (column + C) * p.groups + group);
    }
    __m512 sums[C][R];
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) {
            const float rest = int4_factors(p, row + r, column + c, factors + (c * R + r) * pieces);
            sums[c][r] = _mm512_zextps128_ps512(_mm_set_ss(rest));
        }
    const uint8_t* weight = p.weight + column * (padded / 2);
    const int8_t* x = &p.x->bytes[row * padded];
    const __m512i low = _mm512_set1_epi8(0x0f), high = _mm512_set1_epi8(static_cast<char>(0xf0));
    const __m512i none = _mm512_setzero_si512();
    for (int64_t piece = 0; piece < pieces; piece += 2)
        for (int c = 0; c < C; ++c) {
            const uint8_t* from = weight + c * (padded / 2) + piece * 32;
            ask_for(from + C * (padded / 2));
            const __m512i both = _mm512_loadu_si512(from);
            const __m512i first = _mm512_and_si512(both, low), second = _mm512_and_si512(both, high);
            for (int r = 0; r < R; ++r) {
                const int8_t* values = x + r * padded + piece * 64;
                const float* factor = factors + (c * R + r) * pieces + piece;
                const __m512i one = _mm512_dpbusd_epi32(none, first, _mm512_loadu_si512(values));
                const __m512i two = _mm512_dpbusd_epi32(none, second, _mm512_loadu_si512(values + 64));
                sums[c][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(one), _mm512_set1_ps(factor[0]), sums[c][r]);
                sums[c][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(two), _mm512_set1_ps(factor[1]), sums[c][r]);
            }
        }
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) {
            const float value = _mm512_reduce_add_ps(sums[c][r]);
            p.y[(row + r) * p.outputs + column + c] = p.bias ? value + p.bias[column + c] : value;
        }
}

struct Int4Values {
    const uint8_t* weight;
    const uint16_t *scale, *zero;
    uint16_t* out;
    int64_t inputs, padded, groups, group;
};

// 16 floats as bfloat16, to the nearest, ties to even.
VNNI_TARGET inline __m256i round_bf16(__m512 values) {
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}

// The weights themselves, for products of many rows.
VNNI_TARGET void int4_values(int64_t start, int64_t end, void* context) {
    const Int4Values& p = *static_cast<Int4Values*>(context);
    const __m512i nibble = _mm512_set1_epi32(15);
    for (int64_t column = start; column < end; ++column) {
        const uint8_t* weight = p.weight + column * (p.padded / 2);
        for (int64_t start_k = 0; start_k < p.inputs; start_k += 64) {
            const float scale = from_bf16(p.scale[column * p.groups + start_k / p.group]);
            const float zero = from_bf16(p.zero[column * p.groups + start_k / p.group]);
            const __m512 step = _mm512_set1_ps(scale), base = _mm512_set1_ps(zero - 8.0f * scale);
            const __m128i shift = _mm_cvtsi32_si128(start_k % 128 ? 4 : 0);
            const int64_t end_k = p.inputs - start_k < 64 ? p.inputs : start_k + 64;
            for (int64_t k = start_k; k < end_k; k += 16) {
                const uint8_t* from = weight + k / 128 * 64 + k % 64;
                __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
                codes = _mm512_and_si512(_mm512_srl_epi32(codes, shift), _mm512_set1_epi32(15));
                const __m256i rounded = round_bf16(_mm512_fmadd_ps(_mm512_cvtepi32_ps(codes), step, base));
                uint16_t* to = p.out + column * p.inputs + k;
                if (end_k - k >= 16)
                    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded);
                else
                    _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << (end_k - k)) - 1), rounded);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------ all rows, all of a block

struct Bf16Tile {
    static constexpr int rows = 4;  // of activations in one pass, as many as registers hold
    const Bf16Product& p;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { bf16_tile<R, C>(p, row, column); }
};

struct Int8Tile {
    static constexpr int rows = 2;  // of activations in one pass
    const Int8Product& p;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { int8_tile<R, C>(p, row, column); }
};

struct Int4Tile {
    static constexpr int rows = 4;  // of activations in one pass
    const Int4Product& p;
    float* factors;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { int4_tile<R, C>(p, row, column, factors); }
};

// The weights of the second pass are in the nearest cache.
template <int C, class Tile>
void all_rows(const Tile& tile, int64_t rows, int64_t column) {
    int64_t row = 0;
    for (; row + Tile::rows <= rows; row += Tile::rows) tile.template run<Tile::rows, C>(row, column);
    for (; row + 2 <= rows; row += 2) tile.template run<2, C>(row, column);
    for (; row < rows; ++row) tile.template run<1, C>(row, column);
}

template <class Tile>
void all_columns(const Tile& tile, int64_t rows, int64_t start, int64_t end) {
    int64_t column = start;
    for (; column + kColumns <= end; column += kColumns) all_rows<kColumns>(tile, rows, column);
    for (; column < end; ++column) all_rows<1>(tile, rows, column);
}

void bf16_block(int64_t start, int64_t end, void* context) {
    const Bf16Product& p = *static_cast<Bf16Product*>(context);
    all_columns(Bf16Tile{p}, p.rows, start, end);
}

void int8_block(int64_t start, int64_t end, void* context) {
    const Int8Product& p = *static_cast<Int8Product*>(context);
    all_columns(Int8Tile{p}, p.rows, start, end);
}

void int4_block(int64_t start, int64_t end, void* context) {
    const Int4Product& p = *static_cast<Int4Product*>(context);
    std::vector<float> factors(kColumns * Int4Tile::rows * p.x->padded / 64);
    all_columns(Int4Tile{p, factors.data()}, p.rows, start, end);
}

// A block of outputs for a thread to take: long enough to stream, short enough to share evenly.
int64_t block_of(int64_t outputs, int threads) {
    const int64_t block = outputs / (threads * 4) / kColumns * kColumns;
    return block < kColumns ? kColumns : block;
}

#endif  // ONLOOKER_X86

}  // namespace

extern "C" {

// What this processor can do: 1 bfloat16, 2 int8 and int4.
int onlooker_features() {
    int features = 0;
#ifdef ONLOOKER_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        if (__builtin_cpu_supports("avx512bf16")) features |= 1;
        if (__builtin_cpu_supports("avx512vnni")) features |= 2;
    }
#endif
    return features;
}

#ifdef ONLOOKER_X86

// y = x weightᵀ + bias, all bfloat16, contiguous; bias may be null.
void onlooker_bf16(const uint16_t* x, const uint16_t* weight, const uint16_t* bias, uint16_t* y, int64_t rows,
                   int64_t outputs, int64_t inputs, int threads) {
    Bf16Product p{x, weight, bias, y, rows, outputs, inputs};
    Pool::shared().run(threads, outputs, block_of(outputs, threads), bf16_block, &p);
}

// y = x (weight * scale)ᵀ + bias; x, scale [N], bias and y are float. 0 when a value of x was not finite: y is unset.
int onlooker_int8(const float* x, const int8_t* weight, const float* scale, const float* bias, float* y, int64_t rows,
                  int64_t outputs, int64_t inputs, int threads) {
    SplitRows split;
    if (!split_rows(x, rows, inputs, split)) return 0;
    Int8Product p{&split, weight, scale, bias, y, rows, outputs, inputs};
    Pool::shared().run(threads, outputs, block_of(outputs, threads), int8_block, &p);
    return 1;
}

// The same with codes of 4 bits (see Int4Product); `group` is 64 or 128.
int onlooker_int4(const float* x, const uint8_t* weight, const uint16_t* scale, const uint16_t* zero,
                  const float* bias, float* y, int64_t rows, int64_t outputs, int64_t inputs, int group, int threads) {
    ByteRows bytes;
    if (!byte_rows(x, rows, inputs, bytes)) return 0;
    Int4Product p{&bytes, weight, scale, zero, bias, y, rows, outputs, bytes.padded / group, group / 64};
    Pool::shared().run(threads, outputs, block_of(outputs, threads), int4_block, &p);
    return 1;
}

// The weights [N, K] themselves as bfloat16.
void onlooker_int4_values(const uint8_t* weight, const uint16_t* scale, const uint16_t* zero, uint16_t* out,
                          int64_t outputs, int64_t inputs, int group, int threads) {
    const int64_t padded = (inputs + 127) / 128 * 128;
    Int4Values p{weight, scale, zero, out, inputs, padded, padded / group, group};
    Pool::shared().run(threads, outputs, block_of(outputs, threads), int4_values, &p);
}

#endif
}
