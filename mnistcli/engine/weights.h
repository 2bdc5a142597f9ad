// A convolution's weights in the order in which they are read, and their gradient in torch's.

#pragma once

#include <utility>
#include <vector>

#include "map.h"
#include "vectors.h"

namespace {

// Single, or as pairs of bf16; and in evaluation what they were packed from.
struct Packed {
  std::vector<float> singles, source;
  std::vector<uint32_t> pairs;
};

// One stage's weights as its pass reads them; backwards inputs and outputs change places, and the
// taps their order.
struct Weights {
  const Parameter& weight;
  int64_t inputs, outputs, kernel;
  bool back;

  Weights(const Parameter& from, const Stage& stage, const Map& in, const Map& out, bool backwards)
      : weight(from), inputs(in.channels), outputs(out.channels), kernel(stage.kernel),
        back(backwards) {
    if (back) std::swap(inputs, outputs);
  }

  float operator()(int64_t o, int64_t i, int64_t y, int64_t x) const {
    const int64_t last = kernel - 1;
    return weight.data[back ? weight.at(i, o, last - y, last - x) : weight.at(o, i, y, x)];
  }

  void pack_depthwise(std::vector<float>& to) const {
    to.clear();
    const int64_t area = kernel * kernel;
    for (int64_t c = 0; c < outputs; c++)
      for (int64_t tap = 0; tap < area; tap++) {
        const int64_t at = back ? area - 1 - tap : tap;
        to.push_back(weight.data[weight.at(c, 0, at / kernel, at % kernel)]);
      }
  }

  void pack_dense(std::vector<float>& to) const {
    to.clear();
    in_runs<LONGEST>(outputs, [&](int64_t first, auto run) {
      for (int64_t i = 0; i < inputs; i++)
        for (int64_t tap = 0; tap < kernel * kernel; tap++)
          for (int64_t c = first; c < first + run; c++)
            to.push_back((*this)(c, i, tap / kernel, tap % kernel));
    });
  }
};

// Add up the groups' parts of a weight's gradient, `total` each, in order.
void add_up(const std::vector<float>& parts, int64_t total, int64_t inputs, int64_t kernel,
            const Parameter& weight) {
  const int64_t area = kernel * kernel;
  for (int64_t i = 0; i < total; i++) {
    double value = 0;
    for (size_t at = i; at < parts.size(); at += total) value += parts[at];
    const int64_t pair = i / area;
    weight.gradient[weight.at(pair / inputs, pair % inputs, i / kernel % kernel, i % kernel)] =
        float(value);
  }
}

}  // namespace
