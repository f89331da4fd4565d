// The weights of torch's 8-bit resize, to the bit, and their order for the passes of resize.cpp.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

// Outputs `first` to `stop` of a direction that has `size` of them.
struct Part {
    int64_t size, first, stop;
};

namespace {

constexpr int64_t kPixels = 4;  // of a vector across: 4 times 4 sums of 32 bits, one for each channel

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
        for (int64_t k = 0; k < taps; ++k) current[k] = filter((k + start - center + 0.5) * inverse, is_cubic);
        for (int64_t k = 0; k < taps; ++k) total += current[k];
        peak = std::max(peak, *std::max_element(current.data(), current.data() + taps) / total);
        if (i < part.first || i >= part.stop) continue;
        for (int64_t k = 0; k < taps; ++k) exact[(i - part.first) * most + k] = current[k] / total;
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

}  // namespace
