// Products with large weight matrices as they lie in the checkpoint, in bfloat16, int8 and int4, and attention of one
// position: what decoding waits for, and what prompts do.
//
// Letters: M rows of activations, N outputs, K inputs. Every weight is [N, K], row after row, so a mapped file can be used
// as it is. Plain C ABI, C++17, no libraries. Compiled on the machine that runs it; see build.py.

#include <new>

#include "bf16.h"
#include "int4.h"
#include "int8.h"
#include "many_positions.h"
#include "one_position.h"

namespace {

// 0 where memory is not to be had: an exception that left for Python would end the process.
template <class Work>
int finished(const Work& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return 0;
    }
}

}  // namespace

extern "C" {

// What this processor can do: 1 bfloat16, 2 int8 and int4.
int onlooker_features() {
    int features = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        if (__builtin_cpu_supports("avx512bf16")) features |= 1;
        if (__builtin_cpu_supports("avx512vnni")) features |= 2;
    }
    return features;
}

// y = x weightᵀ + bias, all bfloat16; bias may be null. From one row of x to the next it is `stride` numbers.
void onlooker_bf16(const uint16_t* x, const uint16_t* weight, const uint16_t* bias, uint16_t* y, int64_t rows,
                   int64_t outputs, int64_t inputs, int64_t stride, int threads) {
    Bf16Product p{x, weight, bias, y, rows, outputs, inputs, stride};
    Pool::shared().run(threads, outputs, block_of(outputs, threads), bf16_block, &p);  // asks for no memory
}

// y = x (weight * scale)ᵀ + bias; x and y are float, or bfloat16 where `is_half`, bias is float, scale is bfloat16
// [N, pieces of 64 inputs]. From `many` rows on by panels. 0 when a value of x was not finite, or memory is short.
int onlooker_int8(void* x, const int8_t* weight, const uint16_t* scale, const float* bias, void* y, int64_t rows,
                  int64_t outputs, int64_t inputs, int is_half, int64_t many, int threads) {
    return finished([&] {
        ByteRows bytes;
        if (!byte_rows({x, is_half != 0}, rows, inputs, bytes, threads)) return 0;
        Int8Product p{{&bytes, bias, {y, is_half != 0}, rows, outputs, inputs, (inputs + 63) / 64}, weight, scale};
        rows < many ? few_rows(p, threads) : many_rows(p, threads);
        return 1;
    });
}

// The same with codes of 4 bits (see int4.h); `group` is 64 or 128.
int onlooker_int4(void* x, const uint8_t* weight, const uint16_t* scale, const uint16_t* zero, const float* bias,
                  void* y, int64_t rows, int64_t outputs, int64_t inputs, int group, int is_half, int64_t many,
                  int threads) {
    return finished([&] {
        ByteRows bytes;
        if (!byte_rows({x, is_half != 0}, rows, inputs, bytes, threads)) return 0;
        const int64_t padded = bytes.padded;
        Int4Product p{{&bytes, bias, {y, is_half != 0}, rows, outputs, inputs, padded / 64},
                      weight, scale, zero, padded / group, group / 64};
        rows < many ? few_rows(p, threads) : many_rows(p, threads);
        return 1;
    });
}

// softmax(q kᵀ * scale + mask) v in bfloat16; the mask is float, or bfloat16 where `is_half`, and may be null. `sizes` and
// strides are those of Attention, in its order. 0 when memory is short.
int onlooker_attention(const uint16_t* q, const uint16_t* k, const uint16_t* v, void* mask, uint16_t* out,
                       const int64_t* sizes, float scale, int is_causal, int is_half, int threads) {
    const auto strides = [sizes](int i) { return Strides{sizes[i], sizes[i + 1], sizes[i + 2]}; };
    Attention p{q, k, v, {mask, is_half != 0}, out, scale, is_causal != 0, sizes[0], sizes[1], sizes[2], sizes[3],
                sizes[4], sizes[5], strides(6), strides(9), strides(12), strides(15)};
    const bool is_one = p.positions == 1;
    const int64_t heads = p.rows * (is_one ? p.heads : p.kv_heads);
    const int64_t step = std::max<int64_t>(1, heads / (4 * threads));
    return finished([&] {
        Pool::shared().run(threads, heads, step, is_one ? one_position : many_positions, &p);
        return 1;
    });
}
}
