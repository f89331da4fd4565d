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

VNNI_TARGET bool byte_rows(const float* x, int64_t rows, int64_t inputs, ByteRows& out) {
    out.padded = (inputs + 127) / 128 * 128;
    out.bytes.assign(rows * out.padded, 0);
    out.scale.assign(rows * out.padded / 64, 0.0f);
    out.totals.assign(rows * out.padded / 64, 0.0f);
    out.sums.assign(rows * out.padded / 64, 0);
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
            out.sums[piece] = total;
        }
    return true;
}

// ------------------------------------------------------------------------------------------------------------- int8

// A weight is code * scale, with a scale for every 64 inputs of an output.
struct Int8Product {
    const ByteRows* x;
    const int8_t* weight;
    const uint16_t* scale;  // bfloat16 [N, groups]
    const float* bias;
    float* y;
    int64_t rows, outputs, inputs, groups;
};

VNNI_TARGET inline __m512 load_bf16(const uint16_t* from, int64_t count) {
    const __mmask16 mask = count >= 16 ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
    const __m256i halves = _mm256_maskz_loadu_epi16(mask, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// 64 weights, 128 added to each: the instruction wants one side without signs.
VNNI_TARGET inline __m512i load_raised(const int8_t* from, int64_t count) {
    const __mmask64 mask = count >= 64 ? ~0ull : (1ull << count) - 1;
    return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from), _mm512_set1_epi8(static_cast<char>(0x80)));
}

// The factor of every 64 inputs; returned is what the 128 that are added to every code have to give back.
VNNI_TARGET float int8_factors(const Int8Product& p, int64_t row, int64_t column, float* factors) {
    const uint16_t* scales = p.scale + column * p.groups;
    const float *x_scale = &p.x->scale[row * p.x->pieces()], *totals = &p.x->totals[row * p.x->pieces()];
    __m512 sum = _mm512_setzero_ps();
    for (int64_t group = 0; group < p.groups; group += 16) {
        const int64_t count = p.groups - group < 16 ? p.groups - group : 16;
        const __m512 scale = load_bf16(scales + group, count);
        sum = _mm512_fmadd_ps(scale, load_some(totals + group, count), sum);
        const __m512 factor = _mm512_mul_ps(scale, load_some(x_scale + group, count));
        _mm512_mask_storeu_ps(factors + group, static_cast<__mmask16>((1u << count) - 1), factor);
    }
    return -128.0f * _mm512_reduce_add_ps(sum);
}

// Few rows: weights stream through once, as they lie.
template <int R, int C>
VNNI_TARGET void int8_tile(const Int8Product& p, int64_t row, int64_t column, float* factors) {
    const int64_t padded = p.x->padded;
    __m512 sums[C][R];
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) {
            const float rest = int8_factors(p, row + r, column + c, factors + (c * R + r) * p.groups);
            sums[c][r] = _mm512_zextps128_ps512(_mm_set_ss(rest));
        }
    const int8_t *weight = p.weight + column * p.inputs, *x = &p.x->bytes[row * padded];
    const __m512i none = _mm512_setzero_si512();
    for (int64_t group = 0; group < p.groups; ++group)
        for (int c = 0; c < C; ++c) {
            const int8_t* from = weight + c * p.inputs + group * 64;
            ask_for(from + C * p.inputs);
            const __m512i w = load_raised(from, p.inputs - group * 64);
            for (int r = 0; r < R; ++r) {
                const __m512i sum = _mm512_dpbusd_epi32(none, w, _mm512_loadu_si512(x + r * padded + group * 64));
                const __m512 factor = _mm512_set1_ps(factors[(c * R + r) * p.groups + group]);
                sums[c][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, sums[c][r]);
            }
        }
    for (int c = 0; c < C; ++c)
        for (int r = 0; r < R; ++r) {
            const float value = _mm512_reduce_add_ps(sums[c][r]);
            p.y[(row + r) * p.outputs + column + c] = p.bias ? value + p.bias[column + c] : value;
        }
}

// Many rows: a panel of weights is laid out for the registers and stays in the second-level cache for all of them.
constexpr int kPanel = 32;          // outputs of a panel: two registers
constexpr int kTile = 6;            // rows in registers at a time
constexpr int64_t kNearTiles = 42;  // that stay near while panels change
constexpr int64_t kNearGroups = 8;  // of a panel, in the nearest cache while rows change

struct Panel {
    std::vector<uint8_t> codes;  // [groups][16 steps][kPanel outputs][4 inputs], 128 added
    std::vector<float> scale;    // [groups][kPanel]
    std::vector<float> y;        // [kNearTiles][kTile][kPanel]

    explicit Panel(int64_t groups)
        : codes(groups * 64 * kPanel), scale(groups * kPanel), y(kNearTiles * kTile * kPanel) {}
};

// The first rows of ByteRows, up to kNearTiles of kTile, in the order in which they are read: some groups of one tile,
// the same groups of the next, ...
struct Tiles {
    int64_t count;
    std::vector<int8_t> bytes;   // [...][groups][16 steps][kTile][4 inputs]
    std::vector<float> scale;    // [...][groups][kTile]
    std::vector<int32_t> start;  // the same: what the 128 that are added to every code give too much

    // Where groups `group` to `end` of a tile begin, in groups of a tile.
    int64_t place(int64_t tile, int64_t group, int64_t end) const { return group * count + tile * (end - group); }

    void fill(const ByteRows& from, int64_t row, int64_t groups) {
        const int64_t rows = from.rows() - row < kNearTiles * kTile ? from.rows() - row : kNearTiles * kTile;
        count = (rows + kTile - 1) / kTile;
        bytes.assign(count * groups * 64 * kTile, 0);
        scale.assign(count * groups * kTile, 0.0f);
        start.assign(count * groups * kTile, 0);
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t group = 0; group < groups; ++group) {
                const int64_t first = group / kNearGroups * kNearGroups;
                const int64_t end = first + kNearGroups < groups ? first + kNearGroups : groups;
                const int64_t to = place(r / kTile, first, end) + group - first, piece = (row + r) * from.pieces() + group;
                scale[to * kTile + r % kTile] = from.scale[piece];
                start[to * kTile + r % kTile] = -128 * from.sums[piece];
                const int8_t* values = &from.bytes[(row + r) * from.padded + group * 64];
                int8_t* place = &bytes[to * 64 * kTile + r % kTile * 4];
                for (int step = 0; step < 16; ++step) std::memcpy(place + step * 4 * kTile, values + step * 4, 4);
            }
    }
};

// 16 outputs of 4 inputs for each of 16 steps: rows of 16 words become columns.
VNNI_TARGET inline void turn(__m512i (&words)[16]) {
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

VNNI_TARGET void fill_panel(const Int8Product& p, int64_t column, Panel& panel) {
    const int64_t columns = p.outputs - column < kPanel ? p.outputs - column : kPanel;
    for (int64_t group = 0; group < p.groups; ++group)
        for (int half = 0; half < kPanel; half += 16) {
            __m512i words[16];
            for (int c = 0; c < 16; ++c) {
                const int64_t place = half + c, k = group * 64;
                const int8_t* from = p.weight + (column + place) * p.inputs + k;
                ask_for(from + kPanel * p.inputs);
                words[c] = place < columns ? load_raised(from, p.inputs - k) : _mm512_setzero_si512();
                panel.scale[group * kPanel + place] =
                    place < columns ? from_bf16(p.scale[(column + place) * p.groups + group]) : 0.0f;
            }
            turn(words);
            for (int step = 0; step < 16; ++step)
                _mm512_storeu_si512(&panel.codes[((group * 16 + step) * kPanel + half) * 4], words[step]);
        }
}

// Sums by name and not in an array, which compilers keep in memory.
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define LOAD(r) __m512 y_one##r = _mm512_loadu_ps(y + r * kPanel), y_two##r = _mm512_loadu_ps(y + r * kPanel + 16);
#define STORE(r) _mm512_storeu_ps(y + r * kPanel, y_one##r), _mm512_storeu_ps(y + r * kPanel + 16, y_two##r);
#define START(r) __m512i one##r = _mm512_set1_epi32(starts[r]), two##r = one##r;
#define STEP(r) { \
        const __m512i value = _mm512_set1_epi32(four_bytes(x + 4 * r)); \
        one##r = dpbusd(one##r, codes_one, value), two##r = dpbusd(two##r, codes_two, value); \
    }
#define ADD(r) { \
        const __m512 x_scale = _mm512_set1_ps(x_scales[r]); \
        y_one##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(one##r), _mm512_mul_ps(scale_one, x_scale), y_one##r); \
        y_two##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(two##r), _mm512_mul_ps(scale_two, x_scale), y_two##r); \
    }

// The instruction spelled out: given the intrinsic, gcc 12 stores the sum after every step.
VNNI_TARGET inline __m512i dpbusd(__m512i sum, __m512i weights, __m512i values) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(values));
    return sum;
}

inline int32_t four_bytes(const int8_t* from) {
    int32_t value;
    std::memcpy(&value, from, 4);
    return value;
}

// One tile times some groups of a panel, onto y.
VNNI_TARGET void int8_tile_panel(const Tiles& tiles, const Panel& panel, int64_t tile, int64_t group, int64_t end) {
    const int64_t place = tiles.place(tile, group, end);
    const int8_t* x = &tiles.bytes[place * 64 * kTile];
    const float* x_scales = &tiles.scale[place * kTile];
    const int32_t* starts = &tiles.start[place * kTile];
    const uint8_t* codes = &panel.codes[group * 64 * kPanel];
    float* y = const_cast<float*>(&panel.y[tile * kTile * kPanel]);
    EACH_ROW(LOAD)
    for (; group < end; ++group, x_scales += kTile, starts += kTile) {
        EACH_ROW(START)
#pragma GCC unroll 4
        for (int step = 0; step < 16; ++step, codes += 4 * kPanel, x += 4 * kTile) {
            const __m512i codes_one = _mm512_loadu_si512(codes), codes_two = _mm512_loadu_si512(codes + 64);
            EACH_ROW(STEP)
        }
        const __m512 scale_one = _mm512_loadu_ps(&panel.scale[group * kPanel]);
        const __m512 scale_two = _mm512_loadu_ps(&panel.scale[group * kPanel + 16]);
        EACH_ROW(ADD)
    }
    EACH_ROW(STORE)
}

#undef EACH_ROW
#undef LOAD
#undef STORE
#undef START
#undef STEP
#undef ADD

// All rows of the tiles, the first of which is row `first`, times a panel.
VNNI_TARGET void int8_rows(const Int8Product& p, const Tiles& tiles, Panel& panel, int64_t first, int64_t column) {
    panel.y.assign(panel.y.size(), 0.0f);
    for (int64_t group = 0; group < p.groups; group += kNearGroups) {
        const int64_t end = group + kNearGroups < p.groups ? group + kNearGroups : p.groups;
        for (int64_t tile = 0; tile < tiles.count; ++tile) int8_tile_panel(tiles, panel, tile, group, end);
    }
    const int64_t columns = p.outputs - column < kPanel ? p.outputs - column : kPanel;
    const int64_t rows = p.rows - first < tiles.count * kTile ? p.rows - first : tiles.count * kTile;
    for (int64_t c = 0; c < columns; c += 16) {
        const __mmask16 mask = static_cast<__mmask16>(columns - c < 16 ? (1u << (columns - c)) - 1 : 0xffff);
        const __m512 bias = p.bias ? _mm512_maskz_loadu_ps(mask, p.bias + column + c) : _mm512_setzero_ps();
        for (int64_t r = 0; r < rows; ++r) {
            const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(&panel.y[r * kPanel + c]), bias);
            _mm512_mask_storeu_ps(p.y + (first + r) * p.outputs + column + c, mask, sum);
        }
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
    static constexpr int rows = 4;  // of activations in one pass
    const Int8Product& p;
    float* factors;
    template <int R, int C>
    void run(int64_t row, int64_t column) const { int8_tile<R, C>(p, row, column, factors); }
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
    std::vector<float> factors(kColumns * Int8Tile::rows * p.groups);
    all_columns(Int8Tile{p, factors.data()}, p.rows, start, end);
}

void int8_panels(int64_t start, int64_t end, void* context) {
    const Int8Product& p = *static_cast<Int8Product*>(context);
    Panel panel(p.groups);
    Tiles tiles;
    for (int64_t row = 0; row < p.rows; row += kNearTiles * kTile) {
        tiles.fill(*p.x, row, p.groups);
        for (int64_t column = start; column < end; column += kPanel) {
            fill_panel(p, column, panel);
            int8_rows(p, tiles, panel, row, column);
        }
    }
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

// y = x (weight * scale)ᵀ + bias; x, bias and y are float, scale is bfloat16 [N, groups of 64 inputs]. From `many` rows
// on by panels. 0 when a value of x was not finite: y is unset.
int onlooker_int8(const float* x, const int8_t* weight, const uint16_t* scale, const float* bias, float* y,
                  int64_t rows, int64_t outputs, int64_t inputs, int64_t many, int threads) {
    ByteRows bytes;
    if (!byte_rows(x, rows, inputs, bytes)) return 0;
    Int8Product p{&bytes, weight, scale, bias, y, rows, outputs, inputs, (inputs + 63) / 64};
    if (rows < many) {
        Pool::shared().run(threads, outputs, block_of(outputs, threads), int8_block, &p);
    } else {
        const int64_t block = (block_of(outputs, threads) + kPanel - 1) / kPanel * kPanel;
        Pool::shared().run(threads, outputs, block, int8_panels, &p);
    }
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
