// Batch normalisation with ReLU or Hardswish, and 2×2 max-pooling, for training in channels-last
// layout.
//
// Networks this small have 8 to 16 channels, fewer than a vector register has lanes. A batch is
// therefore walked as flat blocks of lcm(channels, 16) or more elements: every lane is used, and
// the per-channel factors repeat as one tile. Arithmetic is fp32, sums over a batch are fp64.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

struct bf16 {
  uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bf16 value) {
  uint32_t wide = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, 4);
  return result;
}

inline void store(float value, float& to) { to = value; }

inline void store(float value, bf16& to) {  // to the nearest, ties to even, as torch rounds
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  to.bits = value != value ? 0x7fc0 : uint16_t(rounded);
}

// A batch [pixels, channels] as chunks of whole tiles.
struct Tiling {
  int64_t channels, total, tile, chunk, chunks;

  Tiling(int64_t pixels, int64_t c) : channels(c), total(pixels * c) {
    int64_t period = std::lcm(c, int64_t(16));
    tile = period * ((127 + period) / period);  // 128 or more: hides the latency of the sums
    chunk = tile * 32;
    chunks = (total + chunk - 1) / chunk;
  }

  // Call work(start, length) for each tile of each chunk, chunks spread over the threads.
  template <class Work>
  void each(Work work) const {
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
      int64_t stop = std::min(total, (k + 1) * chunk);
      for (int64_t start = k * chunk; start < stop; start += tile)
        work(start, std::min(tile, stop - start));
    }
  }

  // Add up two sums a channel: work(start, length, a, b) adds to the tiles a and b. The order of
  // summation depends on the shape alone, so that any number of threads gives the same bits.
  template <class Work>
  std::vector<double> sums(Work work) const {
    std::vector<double> parts(chunks * 2 * channels, 0.0);
#pragma omp parallel
    {
      std::vector<float> tiles(2 * tile);
      float *a = tiles.data(), *b = a + tile;
#pragma omp for schedule(static)
      for (int64_t k = 0; k < chunks; k++) {
        std::fill(tiles.begin(), tiles.end(), 0.0f);
        int64_t stop = std::min(total, (k + 1) * chunk);
        for (int64_t start = k * chunk; start < stop; start += tile)
          work(start, std::min(tile, stop - start), a, b);
        double* part = parts.data() + k * 2 * channels;
        for (int64_t start = 0; start < tile; start += channels)
          for (int64_t c = 0; c < channels; c++) {
            part[c] += a[start + c];
            part[channels + c] += b[start + c];
          }
      }
    }
    std::vector<double> result(2 * channels, 0.0);
    for (int64_t k = 0; k < chunks; k++)
      for (int64_t i = 0; i < 2 * channels; i++) result[i] += parts[k * 2 * channels + i];
    return result;
  }
};

struct Norm {
  const float *weight, *bias;
  float *mean, *rstd;  // of the batch
};

// An activation of v, and what it lets through of the gradient d of its output. A v that is NaN
// gives NaN.
struct ReLU {
  static float value(float v) { return v <= 0 ? 0.0f : v; }
  static float gradient(float v, float d) { return v <= 0 ? 0.0f : d; }
};

// v · min(max(v + 3, 0), 6) / 6: Howard et al. 2019, arXiv:1905.02244, section 5.2.
struct Hardswish {
  static float value(float v) {
    float gate = v + 3;
    gate = gate < 0 ? 0.0f : gate > 6 ? 6.0f : gate;
    return v * gate * (1.0f / 6);
  }
  static float gradient(float v, float d) {
    float slope = v * (1.0f / 3) + 0.5f;
    return v <= -3 ? 0.0f : v >= 3 ? d : d * slope;  // 0 for an infinite d too, as in torch
  }
};

// y = act(scale · x + shift), tiled over the channels.
struct Affine {
  std::vector<float> scale, shift;

  Affine(const Norm& norm, const Tiling& tiling) : scale(tiling.tile), shift(tiling.tile) {
    for (int64_t i = 0; i < tiling.tile; i++) {
      int64_t c = i % tiling.channels;
      scale[i] = norm.weight[c] * norm.rstd[c];
      shift[i] = norm.bias[c] - norm.mean[c] * scale[i];
    }
  }
};

// A batch's moments around a centre a channel: the mean's offset from it, and the variance.
struct Moments {
  std::vector<float> centre;
  std::vector<double> sums;
  int64_t pixels;

  double offset(int64_t c) const { return sums[c] / pixels; }

  double variance(int64_t c) const {
    double var = sums[centre.size() + c] / pixels - offset(c) * offset(c);
    return var < 0 ? 0 : var;  // by rounding; NaN stays
  }

  // A tile's lanes add up 32 squares in fp32: a variance is right to 34 · 2^-24 of itself and of
  // the squared offset. Up to 16 times the variance (ordinary runs: 3) that is 4e-5.
  bool cancels(double eps) const {
    for (size_t c = 0; c < centre.size(); c++)
      if (offset(c) * offset(c) > 16 * (variance(c) + eps)) return true;
    return false;
  }
};

template <class T>
std::vector<double> sums_around(const std::vector<float>& centre, const T* x,
                                const Tiling& tiling) {
  std::vector<float> around(tiling.tile);
  for (int64_t i = 0; i < tiling.tile; i++) around[i] = centre[i % tiling.channels];
  const float* at = around.data();
  return tiling.sums([=](int64_t start, int64_t length, float* a, float* b) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) {
      float d = load(x[start + i]) - at[i];
      a[i] += d;
      b[i] += d * d;
    }
  });
}

// The running mean is near the batch's after the first steps: the first centre. Where it is far
// off, the mean found is the next one; the third is near from wherever the first was.
template <class T>
Moments moments(const T* x, const Tiling& tiling, const float* running_mean, double eps) {
  Moments found{{running_mean, running_mean + tiling.channels}, {}, tiling.total / tiling.channels};
  for (float& c : found.centre) c = std::abs(c) < 1e15f ? c : 0.0f;  // its square overflows, or NaN
  found.sums = sums_around(found.centre, x, tiling);
  for (int more = 3; more && found.cancels(eps); more--) {
    for (int64_t c = 0; c < tiling.channels; c++) found.centre[c] += float(found.offset(c));
    found.sums = sums_around(found.centre, x, tiling);
  }
  return found;
}

template <class Act, class T>
void batch_norm_act(const T* x, T* y, Norm norm, float* running_mean, float* running_var,
                    int64_t pixels, int64_t channels, double eps, double momentum) {
  Tiling tiling(pixels, channels);
  Moments found = moments(x, tiling, running_mean, eps);
  for (int64_t c = 0; c < channels; c++) {
    double offset = found.offset(c), var = found.variance(c);
    norm.mean[c] = float(found.centre[c] + offset);
    norm.rstd[c] = float(1 / std::sqrt(var + eps));
    double unbiased = pixels > 1 ? var * pixels / (pixels - 1) : var;
    running_mean[c] += float(momentum * (found.centre[c] - running_mean[c] + offset));
    running_var[c] += float(momentum * (unbiased - running_var[c]));
  }
  Affine affine(norm, tiling);
  const float *scale = affine.scale.data(), *shift = affine.shift.data();
  tiling.each([=](int64_t start, int64_t length) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) {
      store(Act::value(load(x[start + i]) * scale[i] + shift[i]), y[start + i]);
    }
  });
}

// Ioffe and Szegedy, arXiv:1502.03167, section 3, with the activation's input recomputed from x.
template <class Act, class T>
void batch_norm_act_backward(const T* g, const T* x, T* dx, Norm norm, float* dweight,
                             float* dbias, int64_t pixels, int64_t channels) {
  Tiling tiling(pixels, channels);
  Affine affine(norm, tiling);
  const float *scale = affine.scale.data(), *shift = affine.shift.data();
  std::vector<float> means(tiling.tile), slopes(tiling.tile), constants(tiling.tile);
  for (int64_t i = 0; i < tiling.tile; i++) means[i] = norm.mean[i % channels];
  const float *mean = means.data(), *slope = slopes.data(), *constant = constants.data();
  auto sums = tiling.sums([=](int64_t start, int64_t length, float* a, float* b) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) {
      float v = load(x[start + i]), d = load(g[start + i]);
      d = Act::gradient(v * scale[i] + shift[i], d);
      a[i] += d;
      b[i] += d * (v - mean[i]);
    }
  });
  for (int64_t c = 0; c < channels; c++) {
    dbias[c] = float(sums[c]);
    dweight[c] = float(sums[channels + c] * norm.rstd[c]);
  }
  // dx = scale · (d - mean(d) - (x - mean) · rstd² · mean(d · (x - mean)))
  for (int64_t i = 0; i < tiling.tile; i++) {
    int64_t c = i % channels;
    double steep = double(scale[i]) * norm.rstd[c] * norm.rstd[c] * sums[channels + c] / pixels;
    slopes[i] = float(-steep);
    constants[i] = float(steep * norm.mean[c] - scale[i] * sums[c] / pixels);
  }
  tiling.each([=](int64_t start, int64_t length) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) {
      float v = load(x[start + i]), d = load(g[start + i]);
      d = Act::gradient(v * scale[i] + shift[i], d);
      store(scale[i] * d + slope[i] * v + constant[i], dx[start + i]);
    }
  });
}

// Return `yes` where b takes the place of the maximum a before it, as in torch: the last NaN wins,
// else the first maximum. Without a bool in between, since that stops GCC 12 from vectorising.
inline float if_over(float a, float b, float yes, float no) {
  float larger = a < b ? yes : no;
  return b != b ? yes : larger;
}

inline float larger(float a, float b) { return if_over(a, b, b, a); }

// Split channels into runs of 16, 8, 4, 2 and 1, lengths that the compiler knows: whole vectors.
template <class Work>
inline void in_runs(int64_t channels, Work work) {
  int64_t i = 0;
  for (; channels - i >= 16; i += 16) work(i, std::integral_constant<int, 16>());
  if (channels - i >= 8) work(i, std::integral_constant<int, 8>()), i += 8;
  if (channels - i >= 4) work(i, std::integral_constant<int, 4>()), i += 4;
  if (channels - i >= 2) work(i, std::integral_constant<int, 2>()), i += 2;
  if (channels - i >= 1) work(i, std::integral_constant<int, 1>());
}

// `rows` and `width` count the windows.
template <class T>
void max_pool(const T* x, T* y, int64_t rows, int64_t width, int64_t c) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++)
    for (int64_t j = 0; j < width; j++)
      in_runs(c, [=](int64_t first, auto length) {
        const T *upper = x + (row * 2 * width + j) * 2 * c + first, *lower = upper + width * 2 * c;
        T* out = y + (row * width + j) * c + first;
#pragma omp simd
        for (int i = 0; i < length; i++) {
          float top = larger(load(upper[i]), load(upper[c + i]));
          float low = larger(load(lower[i]), load(lower[c + i]));
          store(larger(top, low), out[i]);
        }
      });
}

// The maximum takes the gradient, added to zero as in torch: -0 becomes 0.
template <class T>
void max_pool_backward(const T* g, const T* x, T* dx, int64_t rows, int64_t width, int64_t c) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++)
    for (int64_t j = 0; j < width; j++)
      in_runs(c, [=](int64_t first, auto length) {
        int64_t at = (row * 2 * width + j) * 2 * c + first, below = at + width * 2 * c;
        const T *upper = x + at, *lower = x + below, *in = g + (row * width + j) * c + first;
        T *dupper = dx + at, *dlower = dx + below;
#pragma omp simd
        for (int i = 0; i < length; i++) {
          float tl = load(upper[i]), tr = load(upper[c + i]);
          float ll = load(lower[i]), lr = load(lower[c + i]);
          float v = load(in[i]) + 0.0f;
          float top = larger(tl, tr), low = larger(ll, lr);
          float to_top = if_over(top, low, 0.0f, v), to_low = if_over(top, low, v, 0.0f);
          store(if_over(tl, tr, 0.0f, to_top), dupper[i]);
          store(if_over(tl, tr, to_top, 0.0f), dupper[c + i]);
          store(if_over(ll, lr, 0.0f, to_low), dlower[i]);
          store(if_over(ll, lr, to_low, 0.0f), dlower[c + i]);
        }
      });
}

}  // namespace

#define EXPORT_NORM(name, Act, suffix, T)                                                       \
  extern "C" void batch_norm_##name##_##suffix(                                                 \
      const T* x, T* y, const float* weight, const float* bias, float* mean, float* rstd,       \
      float* running_mean, float* running_var, int64_t pixels, int64_t channels, double eps,    \
      double momentum) {                                                                        \
    batch_norm_act<Act>(x, y, Norm{weight, bias, mean, rstd}, running_mean, running_var,        \
                        pixels, channels, eps, momentum);                                       \
  }                                                                                             \
  extern "C" void batch_norm_##name##_backward_##suffix(                                        \
      const T* g, const T* x, T* dx, const float* weight, const float* bias, float* mean,       \
      float* rstd, float* dweight, float* dbias, int64_t pixels, int64_t channels) {            \
    batch_norm_act_backward<Act>(g, x, dx, Norm{weight, bias, mean, rstd}, dweight, dbias,      \
                                 pixels, channels);                                             \
  }

#define EXPORT(suffix, T)                                                                       \
  EXPORT_NORM(relu, ReLU, suffix, T)                                                            \
  EXPORT_NORM(hardswish, Hardswish, suffix, T)                                                  \
  extern "C" void max_pool_##suffix(const T* x, T* y, int64_t rows, int64_t width, int64_t c) { \
    max_pool(x, y, rows, width, c);                                                             \
  }                                                                                             \
  extern "C" void max_pool_backward_##suffix(const T* g, const T* x, T* dx, int64_t rows,       \
                                             int64_t width, int64_t c) {                        \
    max_pool_backward(g, x, dx, rows, width, c);                                                \
  }

EXPORT(bf16, bf16)
EXPORT(fp32, float)
