// Batch normalisation from two sums per channel. `norm` is its weight, bias, running mean and
// running variance; `pixels` counts one channel over the whole batch.

#pragma once

#include <cmath>

#include "map.h"

namespace {

// The running mean is near the batch's after the first steps: the moments are taken around it.
void start_from_running(Map& map, const Parameter* norm) {
  const float* running = norm[2].data;
  for (int64_t c = 0; c < map.channels; c++)  // its square overflows, or NaN
    map.mean[c] = std::abs(running[c]) < 1e15f ? running[c] : 0.0f;
}

struct Moments {
  double offset, var;  // of the batch's mean from where it was looked for; NaN stays
};

Moments moments(const Parts& parts, double pixels, int64_t c) {
  double offset = parts.over_groups(2 * c) / pixels;
  double var = parts.over_groups(2 * c + 1) / pixels - offset * offset;
  return {offset, var < 0 ? 0 : var};  // by rounding
}

// A lane adds up a row's 28 squares in fp32: a variance is right to 30 · 2^-24 of itself and of
// the squared offset. Up to 16 times the variance that is 4e-5.
bool cancels(const Map& map, const Parts& parts, double pixels) {
  for (int64_t c = 0; c < map.channels; c++) {
    Moments found = moments(parts, pixels, c);
    if (found.offset * found.offset > 16 * (found.var + map.eps)) return true;
  }
  return false;
}

void set_affine(Map& map, const Parameter* norm, int64_t c, float mean, float rstd) {
  map.mean[c] = mean, map.rstd[c] = rstd;
  map.scale[c] = norm[0].data[c] * rstd;
  map.shift[c] = norm[1].data[c] - mean * map.scale[c];
}

void normalise(Map& map, const Parameter* norm, const Parts& parts, double pixels) {
  for (int64_t c = 0; c < map.channels; c++) {
    const auto [offset, var] = moments(parts, pixels, c);
    double unbiased = pixels > 1 ? var * pixels / (pixels - 1) : var;
    norm[2].data[c] += float(map.momentum * (map.mean[c] - norm[2].data[c] + offset));
    norm[3].data[c] += float(map.momentum * (unbiased - norm[3].data[c]));
    set_affine(map, norm, c, float(map.mean[c] + offset), float(1 / std::sqrt(var + map.eps)));
  }
}

void use_running(Map& map, const Parameter* norm) {
  for (int64_t c = 0; c < map.channels; c++) {
    const double rstd = 1 / std::sqrt(double(norm[3].data[c]) + map.eps);
    set_affine(map, norm, c, norm[2].data[c], float(rstd));
  }
}

// Ioffe and Szegedy, arXiv:1502.03167, section 3:
// dx = scale · (d - mean(d) - (x - mean) · rstd² · mean(d · (x - mean)))
void differentiate_norm(Map& map, const Parameter* norm, const Parts& parts, double pixels) {
  for (int64_t c = 0; c < map.channels; c++) {
    double plain = parts.over_groups(2 * c), apart = parts.over_groups(2 * c + 1);
    norm[0].gradient[c] = float(apart * map.rstd[c]);
    norm[1].gradient[c] = float(plain);
    double steep = double(map.scale[c]) * map.rstd[c] * map.rstd[c] * apart / pixels;
    map.slope[c] = float(-steep);
    map.constant[c] = float(steep * map.mean[c] - map.scale[c] * plain / pixels);
  }
}

}  // namespace
