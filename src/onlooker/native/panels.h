// Many rows of bytes: a panel of weights is laid out for the registers and stays near for all of them.
//
// A panel is 32 outputs wide, two registers. Where its codes come from is the business of int8.h and int4.h, which say
// what was added to each code so that it has no sign (the instruction wants that) and whether weights have a zero.
#pragma once

#include <algorithm>
#include <vector>

#include "byte_rows.h"
#include "few_rows.h"

namespace {

constexpr int kPanel = 32;          // outputs of a panel: two registers
constexpr int kTile = 6;            // rows in registers at a time
constexpr int64_t kNearTiles = 42;  // that stay near while panels change
constexpr int64_t kNearPieces = 8;  // of 64 inputs of a panel, in the nearest cache while rows change

// What products of bytes share.
struct ByteProduct {
    const ByteRows* x;
    const float* bias;
    Floats y;  // [rows, outputs]
    int64_t rows, outputs, inputs, pieces;  // pieces: of 64 inputs, the last one perhaps not full
};

// The sums of a row and C outputs, into y.
template <int C>
VNNI_TARGET inline void finish(const ByteProduct& p, int64_t row, int64_t column, const __m512 (&sums)[C]) {
    const __m512 bias = p.bias ? load_some(p.bias + column, C) : _mm512_setzero_ps();
    p.y.store(row * p.outputs + column, C, _mm512_add_ps(_mm512_zextps128_ps512(sum_up<C>(sums)), bias));
}

struct Panel {
    std::vector<uint8_t> codes;  // [pieces][16 steps][kPanel outputs][4 inputs], without signs
    std::vector<float> scale;    // [pieces][kPanel]
    std::vector<float> zero;     // the same, where weights have one
    std::vector<float> y;        // [rows][kPanel]

    Panel(int64_t pieces, bool has_zero)
        : codes(pieces * 64 * kPanel), scale(pieces * kPanel), zero(has_zero ? pieces * kPanel : 0) {}
};

// ByteRows in the order in which they are read: some pieces of a tile, the same of the next tile, ...
struct Tiles {
    const ByteRows& from;
    int64_t pieces, count, near;  // near: tiles that are worked on before the panel changes
    int32_t raised;               // what was added to each code
    std::vector<int8_t> bytes;    // [...][pieces][16 steps][kTile][4 inputs]
    std::vector<float> scale;     // [...][pieces][kTile]
    std::vector<float> total;     // the same: sums of 64 inputs
    std::vector<int32_t> start;   // the same: what is added to every code gives too much

    Tiles(const ByteRows& from, int64_t pieces, int raised)
        : from(from), pieces(pieces), count((from.rows() + kTile - 1) / kTile), raised(raised),
          bytes(count * pieces * 64 * kTile), scale(count * pieces * kTile), total(scale.size()), start(scale.size()) {
        const int64_t turns = (count + kNearTiles - 1) / kNearTiles;
        near = (count + turns - 1) / turns;
    }

    // Where a tile's pieces begin, of which `piece` is the first of those that are read together.
    int64_t place(int64_t tile, int64_t piece) const {
        const int64_t first = tile / near * near, together = std::min(kNearPieces, pieces - piece);
        return first * pieces + piece * std::min(near, count - first) + (tile - first) * together;
    }

    void fill(int64_t tile) {
        const int64_t first = tile * kTile, rows = std::min<int64_t>(kTile, from.rows() - first);
        for (int64_t piece = 0; piece < pieces; ++piece)
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t to = place(tile, piece / kNearPieces * kNearPieces) + piece % kNearPieces;
                const int64_t source = (first + r) * from.pieces() + piece;
                scale[to * kTile + r] = from.scale[source];
                total[to * kTile + r] = from.totals[source];
                start[to * kTile + r] = -raised * from.sums[source];
                const int8_t* values = &from.bytes[source * 64];
                int8_t* place = &bytes[to * 64 * kTile + r * 4];
                for (int step = 0; step < 16; ++step) std::memcpy(place + step * 4 * kTile, values + step * 4, 4);
            }
    }
};

// Sums by name and not in an array, which compilers keep in memory.
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define LOAD(r) __m512 y_one##r = _mm512_loadu_ps(y + r * kPanel), y_two##r = _mm512_loadu_ps(y + r * kPanel + 16);
#define STORE(r) _mm512_storeu_ps(y + r * kPanel, y_one##r), _mm512_storeu_ps(y + r * kPanel + 16, y_two##r);
#define START(r) __m512i one##r = _mm512_set1_epi32(start[r]), two##r = one##r;
#define STEP(r) { \
        const __m512i value = _mm512_set1_epi32(four_bytes(x + 4 * r)); \
        one##r = dpbusd(one##r, codes_one, value), two##r = dpbusd(two##r, codes_two, value); \
    }
#define ADD(r) { \
        const __m512 x_scale = _mm512_set1_ps(x_scales[r]); \
        y_one##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(one##r), _mm512_mul_ps(scale_one, x_scale), y_one##r); \
        y_two##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(two##r), _mm512_mul_ps(scale_two, x_scale), y_two##r); \
    }
#define ADD_ZERO(r) { \
        const __m512 total = _mm512_set1_ps(totals[r]); \
        y_one##r = _mm512_fmadd_ps(zero_one, total, y_one##r), y_two##r = _mm512_fmadd_ps(zero_two, total, y_two##r); \
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

// One tile times some pieces of a panel, onto y [kTile, kPanel].
template <bool kHasZero>
VNNI_TARGET void tile_times_panel(const Tiles& tiles, const Panel& panel, int64_t tile, int64_t piece, float* y) {
    const int64_t place = tiles.place(tile, piece), end = std::min(piece + kNearPieces, tiles.pieces);
    const int8_t* x = &tiles.bytes[place * 64 * kTile];
    const float *x_scales = &tiles.scale[place * kTile], *totals = &tiles.total[place * kTile];
    const int32_t* start = &tiles.start[place * kTile];
    const uint8_t* codes = &panel.codes[piece * 64 * kPanel];
    EACH_ROW(LOAD)
    for (; piece < end; ++piece, x_scales += kTile, start += kTile, totals += kTile) {
        EACH_ROW(START)
#pragma GCC unroll 4
        for (int step = 0; step < 16; ++step, codes += 4 * kPanel, x += 4 * kTile) {
            const __m512i codes_one = _mm512_loadu_si512(codes), codes_two = _mm512_loadu_si512(codes + 64);
            EACH_ROW(STEP)
        }
        const __m512 scale_one = _mm512_loadu_ps(&panel.scale[piece * kPanel]);
        const __m512 scale_two = _mm512_loadu_ps(&panel.scale[piece * kPanel + 16]);
        EACH_ROW(ADD)
        if constexpr (kHasZero) {
            const __m512 zero_one = _mm512_loadu_ps(&panel.zero[piece * kPanel]);
            const __m512 zero_two = _mm512_loadu_ps(&panel.zero[piece * kPanel + 16]);
            EACH_ROW(ADD_ZERO)
        }
    }
    EACH_ROW(STORE)
}

#undef EACH_ROW
#undef LOAD
#undef STORE
#undef START
#undef STEP
#undef ADD
#undef ADD_ZERO

// Some tiles times a panel, into the product's y.
template <bool kHasZero>
VNNI_TARGET void tiles_times_panel(const ByteProduct& p, const Tiles& tiles, Panel& panel, int64_t tile, int64_t column) {
    const int64_t count = std::min(tiles.near, tiles.count - tile);
    panel.y.assign(count * kTile * kPanel, 0.0f);
    for (int64_t piece = 0; piece < p.pieces; piece += kNearPieces)
        for (int64_t each = 0; each < count; ++each)
            tile_times_panel<kHasZero>(tiles, panel, tile + each, piece, &panel.y[each * kTile * kPanel]);
    const int64_t first = tile * kTile, rows = std::min(count * kTile, p.rows - first);
    for (int64_t c = 0; c < std::min<int64_t>(kPanel, p.outputs - column); c += 16) {
        const int64_t left = p.outputs - column - c;
        const __m512 bias = p.bias ? load_some(p.bias + column + c, left) : _mm512_setzero_ps();
        for (int64_t r = 0; r < rows; ++r) {
            const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(&panel.y[r * kPanel + c]), bias);
            p.y.store((first + r) * p.outputs + column + c, left, sum);
        }
    }
}

// Up to 4 rows of a product at a time, by its tile<R, C>.
template <class Product>
struct ByteTile {
    static constexpr int rows = 4;
    const Product& p;
    float* factors;  // [kColumns][rows][pieces]
    template <int R, int C>
    void run(int64_t row, int64_t column) const { p.template tile<R, C>(row, column, factors); }
};

// A product of few rows, whose weights stream through once, as they lie.
template <class Product>
void few_rows(const Product& p, int threads) {
    Pool::shared().run(threads, p.outputs, block_of(p.outputs, threads), [](int64_t start, int64_t end, void* context) {
        const Product& p = *static_cast<const Product*>(context);
        std::vector<float> factors(kColumns * ByteTile<Product>::rows * p.pieces);
        all_columns(ByteTile<Product>{p, factors.data()}, p.rows, start, end);
    }, const_cast<Product*>(&p));
}

// Codes, scales and zeros of kPanel outputs. Those of 64 inputs of 16 outputs become 16 steps of 4 inputs.
template <class Product>
VNNI_TARGET void fill_panel(const Product& p, int64_t column, Panel& panel) {
    for (int64_t piece = 0; piece < p.pieces; ++piece)
        for (int half = 0; half < kPanel; half += 16) {
            __m512i words[16];
            for (int c = 0; c < 16; ++c) {
                const int64_t output = column + half + c, place = piece * kPanel + half + c;
                const bool is_there = output < p.outputs;
                words[c] = is_there ? p.codes(output, piece) : _mm512_setzero_si512();
                panel.scale[place] = is_there ? p.scale_of(output, piece) : 0.0f;
                if constexpr (Product::kHasZero) panel.zero[place] = is_there ? p.zero_of(output, piece) : 0.0f;
            }
            turn(words);
            for (int step = 0; step < 16; ++step)
                _mm512_storeu_si512(&panel.codes[((piece * 16 + step) * kPanel + half) * 4], words[step]);
        }
}

// A whole product of many rows. `Product` is a ByteProduct with kRaised, kHasZero, and codes, scale_of and zero_of of 64
// inputs of an output.
template <class Product>
void many_rows(const Product& p, int threads) {
    struct Work {
        const Product& p;
        Tiles tiles;
    } work{p, Tiles(*p.x, p.pieces, Product::kRaised)};
    Pool::shared().run(threads, work.tiles.count, 4, [](int64_t start, int64_t end, void* context) {
        for (int64_t tile = start; tile < end; ++tile) static_cast<Work*>(context)->tiles.fill(tile);
    }, &work);
    Pool::shared().run(threads, (p.outputs + kPanel - 1) / kPanel, 2, [](int64_t start, int64_t end, void* context) {
        const auto& [p, tiles] = *static_cast<Work*>(context);
        Panel panel(p.pieces, Product::kHasZero);
        for (int64_t column = start * kPanel; column < std::min(end * kPanel, p.outputs); column += kPanel)
            for (int64_t tile = 0; tile < tiles.count; tile += tiles.near) {
                if (tile == 0) fill_panel(p, column, panel);
                tiles_times_panel<Product::kHasZero>(p, tiles, panel, tile, column);
            }
    }, &work);
}

}  // namespace
