// The stages without weights, a row of all channels at a time: [channels, width].

#pragma once

#include "convolution.h"
#include "map.h"

namespace {

// One row of what a pooling or an addition gives.
void pool_row(const Stage& stage, const Map& out, const Planes& in, const Planes& other, int64_t y,
              V* row) {
  const int64_t k = stage.kernel;
  const float share = 1.0f / float(k * k);  // of a pixel in an average
  for (int64_t c = 0; c < out.channels; c++)
    for (int64_t x = 0; x < out.width; x++, row++) {
      if (stage.kind == MAX_POOL) {
        const V *upper = in.row(c, 2 * y) + 2 * x, *lower = in.row(c, 2 * y + 1) + 2 * x;
        *row = larger(larger(upper[0], upper[1]), larger(lower[0], lower[1]));
      } else if (stage.kind == ADD) {
        *row = in.row(c, y)[x] + other.row(c, y * stage.stride)[x * stage.stride];
      } else {
        *row = V{};
        for (int64_t i = 0; i < k; i++) {
          V line{};  // rows apart, as in a depthwise convolution
          for (int64_t j = 0; j < k; j++) line += in.row(c, y * k + i)[x * k + j] * share;
          *row += line;
        }
      }
    }
}

// One row of the gradient of a pooling's or an addition's input; slot 1 is an addition's other one.
void differentiate_pool_row(const Stage& stage, int slot, const Map& map, const Planes& gradients,
                            const Planes& in, int64_t y, V* row) {
  const int64_t k = stage.kernel, stride = slot ? stage.stride : 1;
  for (int64_t c = 0; c < map.channels; c++)
    for (int64_t x = 0; x < map.width; x++, row++) {
      if (stage.kind == MAX_POOL) {
        const V *upper = in.row(c, y & ~1) + x, *lower = in.row(c, y | 1) + x;
        V top = larger(upper[0], upper[1]), low = larger(lower[0], lower[1]);
        V d = gradients.row(c, y / 2)[x / 2];
        d = y % 2 ? if_over(top, low, d, V{}) : if_over(top, low, V{}, d);
        const V* pair = y % 2 ? lower : upper;
        *row++ = if_over(pair[0], pair[1], V{}, d), x++;
        *row = if_over(pair[0], pair[1], d, V{});
      } else if (stage.kind == ADD) {
        bool seen = y % stride == 0 && x % stride == 0;
        *row = seen ? gradients.row(c, y / stride)[x / stride] : V{};
      } else {
        *row = gradients.row(c, y / k)[x / k] * (1.0f / float(k * k));
      }
    }
}

}  // namespace
