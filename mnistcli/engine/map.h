// Feature maps, the stages between them, and the sums and scratch memory of a pass.

#pragma once

#include <cstdint>
#include <vector>

#include "vectors.h"
#if defined(HALVES)
#include <immintrin.h>
#endif

namespace {

// Maps are kept as bf16 where products are of bf16: half as much goes through memory.
#if defined(HALVES)
typedef __m256i Stored;
inline V load(Stored value) {
  return V(_mm512_slli_epi32(_mm512_cvtepu16_epi32(value), 16));
}
inline Stored stored(V value) { return Stored(_mm512_cvtneps_pbh(__m512(value))); }
#else
typedef V Stored;
inline V load(V value) { return value; }
inline V stored(V value) { return value; }
#endif

// A parameter or buffer in torch's memory, [out, in, y, x], and where its gradient goes.
struct Parameter {
  int64_t stride[4];
  float* data = nullptr;
  float* gradient = nullptr;

  int64_t at(int64_t out, int64_t in, int64_t y, int64_t x) const {
    return out * stride[0] + in * stride[1] + y * stride[2] + x * stride[3];
  }
};

struct Map {
  int64_t channels, height, width, activation;
  int64_t norm;  // its first parameter: weight, bias, running mean, running variance; or -1
  double eps, momentum;
  std::vector<float> mean, rstd, scale, shift;  // of the normalisation: scale · y + shift
  std::vector<float> slope, constant;           // its gradient is scale · d + slope · y + constant
  Stored *values = nullptr, *gradient = nullptr;
  int64_t place = 0;  // of its gradient, in a group

  int64_t pixels() const { return height * width; }
  int64_t at(int64_t group, int64_t c, int64_t y, int64_t x) const {
    return (group * channels + c) * pixels() + y * width + x;
  }
};

enum Kind { CONVOLUTION, MAX_POOL, ADD, DEPTHWISE, AVERAGE };

struct Stage {
  int64_t kind, input, other, output, kernel, border, stride, weight, bias;
  bool adds[2], finishes[2];  // to the gradients of input and other: several stages may read a map
};

// Two sums per channel and group; they are added up in the groups' order.
class Parts {
 public:
  void clear(int64_t groups, int64_t channels) {
    size = 2 * channels, values.assign(groups * size, 0.0);
  }

  double* of(int64_t group) { return values.data() + group * size; }

  double over_groups(int64_t index) const {
    double value = 0;
    for (size_t at = index; at < values.size(); at += size) value += values[at];
    return value;
  }

 private:
  std::vector<double> values;
  int64_t size = 0;
};

// Two sums a channel over one group: fp32 within a row, fp64 beyond.
struct Sums {
  std::vector<V>& lanes;
  double* part;
  bool wanted;

  void add(int64_t c, V first, V second) {
    lanes[2 * c] += first, lanes[2 * c + 1] += second;
  }

  void end_row() {
    if (wanted)
      for (size_t i = 0; i < lanes.size(); i++) part[i] += sum(lanes[i]), lanes[i] = V{};
  }
};

struct Scratch {
  std::vector<V> planes, other, gradients, weights, row, sums;
};

}  // namespace
