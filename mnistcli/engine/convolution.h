// Convolutions, dense and depthwise, and their weights' gradients in fp32, by vectors: the dense ones
// near their peak, 3 × 7 sums in registers.

#pragma once

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace {

// Planes with a border of zeros around each, which a convolution reads. Rows are filled up to a
// multiple of PIXELS; what is computed from there is not used.
struct Planes {
  int64_t channels, border, pitch, plane;
  V* start;

  Planes(std::vector<V>& memory, int64_t c, int64_t height, int64_t width, int64_t around)
      : channels(c), border(around), pitch((width + PIXELS - 1) / PIXELS * PIXELS + 2 * around),
        plane(pitch * (height + 2 * around)) {
    memory.resize(std::max<size_t>(memory.size(), (channels + 1) * plane));
    start = memory.data();
    for (c = 0; c < channels && border; c++) {
      std::fill(start + c * plane, row(c, 0), V{});
      for (int64_t y = 0; y < height; y++)
        std::fill(row(c, y) + width, y + 1 < height ? row(c, y + 1) : start + (c + 1) * plane, V{});
    }
  }

  V* row(int64_t c, int64_t y) const { return start + c * plane + (y + border) * pitch + border; }

  // Take a row [channels, length], `stride` apart.
  void put_row(int64_t y, const V* values, int64_t length, int64_t stride) const {
    for (int64_t c = 0; c < channels; c++) {
      V* to = row(c, y * stride);
      for (int64_t x = 0; x < length; x++, to += stride) *to = *values++;
    }
  }
};

struct Shape {
  int64_t inputs, outputs, kernel, height, width;  // height and width of what comes out
};

// One row of what comes out, [outputs, width]: Σ weights · input over channels and taps.
template <int STRIDE>
void convolve(const Shape& shape, const Planes& in, const float* weights, int64_t y, V* out) {
  for (int64_t x = 0; x < shape.width; x += PIXELS) {
    const float* w = weights;
    const V* corner = in.start + (y * in.pitch + x) * STRIDE;
    in_runs<LONGEST>(shape.outputs, [&](int64_t first, auto run) {
      constexpr int N = run;
      V total[N][PIXELS]{};
      for (int64_t i = 0; i < shape.inputs; i++)
        for (int64_t ky = 0; ky < shape.kernel; ky++) {
          const V* row = corner + i * in.plane + ky * in.pitch;
          for (int64_t kx = 0; kx < shape.kernel; kx++, row++, w += N)
            UNROLL for (int p = 0; p < PIXELS; p++)
              UNROLL for (int c = 0; c < N; c++) total[c][p] += row[p * STRIDE] * w[c];
        }
      UNROLL for (int c = 0; c < N; c++)
        UNROLL for (int p = 0; p < PIXELS; p++)
          if (x + p < shape.width) out[(first + c) * shape.width + x + p] = total[c][p];
    });
  }
}

// weights [outputs, inputs, kernel, kernel] += Σ gradient · input; the gradient's rows and columns
// lie `stride` apart. A band of rows stays in the first cache over all inputs.
void weight_gradient(const Shape& shape, const Planes& gradient, const Planes& in, int64_t stride,
                     V* weights) {
  const auto [inputs, outputs, kernel, height, width] = shape;
  const int64_t area = kernel * kernel;
  const int64_t rows_at_once = std::max<int64_t>(4, 112 / width);
  for (int64_t top = 0; top < height; top += rows_at_once) {
    const int64_t bottom = std::min(top + rows_at_once, height);
    // N outputs × A rows or inputs × B taps as sums in registers.
    auto band = [&](int64_t first, auto run, auto rows, auto taps, int64_t i, int64_t tap) {
      constexpr int N = run, A = rows, B = taps;
      const int64_t jump = B == 3 ? in.pitch : in.plane, to_jump = B == 3 ? 3 : area;
      V* to = weights + (first * inputs + i) * area + tap;
      V total[N][A][B]{};
      for (int64_t y = top; y < bottom; y++) {
        const V* g = gradient.row(first, y * stride);
        const V* v = in.start + i * in.plane + (y * stride + tap / kernel) * in.pitch + tap % kernel;
        for (int64_t x = 0; x < width; x++, g += stride, v += stride)
          UNROLL for (int a = 0; a < A; a++)
            UNROLL for (int b = 0; b < B; b++)
              UNROLL for (int c = 0; c < N; c++)
                total[c][a][b] += g[c * gradient.plane] * v[a * jump + b];
      }
      UNROLL for (int c = 0; c < N; c++)
        UNROLL for (int a = 0; a < A; a++)
          UNROLL for (int b = 0; b < B; b++)
            to[c * inputs * area + a * to_jump + b] += total[c][a][b];
    };
    in_runs<std::min(2, LONGEST)>(outputs, [&](int64_t first, auto run) {
      if (kernel == 3 && LONGEST > 1)
        for (int64_t i = 0; i < inputs; i++) band(first, run, Length<3>(), Length<3>(), i, 0);
      else
        for (int64_t tap = 0; tap < area; tap++)
          in_runs<3>(inputs, [&](int64_t i, auto rows) {
            band(first, run, rows, Length<1>(), i, tap);
          });
    });
  }
}

// One row of what a depthwise convolution gives, [channels, width]; weights [channels, kernel²].
template <int STRIDE>
void depthwise(const Shape& shape, const Planes& in, const float* weights, int64_t y, V* out) {
  for (int64_t c = 0; c < shape.outputs; c++, weights += shape.kernel * shape.kernel)
    for (int64_t x = 0; x < shape.width; x += PIXELS) {
      const float* w = weights;
      const V* row = in.start + c * in.plane + (y * in.pitch + x) * STRIDE;
      V total[PIXELS]{};
      for (int64_t ky = 0; ky < shape.kernel; ky++, row += in.pitch) {
        V line[PIXELS]{};  // rows apart: the rounding of 49 numbers in turn is four times as large
        for (int64_t kx = 0; kx < shape.kernel; kx++, w++)
          UNROLL for (int p = 0; p < PIXELS; p++) line[p] += row[kx + p * STRIDE] * *w;
        UNROLL for (int p = 0; p < PIXELS; p++) total[p] += line[p];
      }
      UNROLL for (int p = 0; p < PIXELS; p++)
        if (x + p < shape.width) out[c * shape.width + x + p] = total[p];
    }
}

// weights [channels, kernel, kernel] = Σ gradient · input, the gradient `stride` apart as above.
void depthwise_gradient(const Shape& shape, const Planes& gradient, const Planes& in,
                        int64_t stride, V* weights) {
  for (int64_t c = 0; c < shape.outputs; c++)
    for (int64_t ky = 0; ky < shape.kernel; ky++)
      in_runs<3>(shape.kernel, [&](int64_t kx, auto run) {
        constexpr int N = run;
        V total[N]{};
        for (int64_t y = 0; y < shape.height; y++) {
          const V* g = gradient.row(c, y * stride);
          const V* v = in.start + c * in.plane + (y * stride + ky) * in.pitch + kx;
          V line[N]{};
          for (int64_t x = 0; x < shape.width; x++, g += stride, v += stride)
            UNROLL for (int n = 0; n < N; n++) line[n] += *g * v[n];
          UNROLL for (int n = 0; n < N; n++) total[n] += line[n];
        }
        UNROLL for (int n = 0; n < N; n++)
          weights[(c * shape.kernel + ky) * shape.kernel + kx + n] = total[n];
      });
}

}  // namespace
