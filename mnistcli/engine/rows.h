// Rows of a map as other stages see them, and rows of its gradient as they come back.

#pragma once

#include <algorithm>

#include "convolution.h"
#include "map.h"

namespace {

template <class Act>
void unfold_row(const Map& map, int64_t g, int64_t c, int64_t y, V* to) {
  const V scale = V{} + map.scale[c], shift = V{} + map.shift[c];
  const Stored* from = map.values + map.at(g, c, y, 0);
  for (int64_t x = 0; x < map.width; x++) to[x] = Act::value(load(from[x]) * scale + shift);
}

// Read a group of a map as its readers see it, normalised and activated, row by row.
template <class Target>
void unfold(const Map& map, int64_t g, Scratch& scratch, const Target& target) {
  scratch.row.resize(std::max<size_t>(scratch.row.size(), map.channels * map.width));
  with_activation(map.activation, [&](auto act) {
    for (int64_t y = 0; y < map.height; y++) {
      for (int64_t c = 0; c < map.channels; c++)
        unfold_row<decltype(act)>(map, g, c, y, scratch.row.data() + c * map.width);
      target.put_row(y, scratch.row.data(), map.width, 1);
    }
  });
}

// Planes take rows as they are: without the way through scratch a step of v7 is 5 % shorter.
void unfold(const Map& map, int64_t g, Scratch&, const Planes& target) {
  with_activation(map.activation, [&](auto act) {
    for (int64_t c = 0; c < map.channels; c++)
      for (int64_t y = 0; y < map.height; y++)
        unfold_row<decltype(act)>(map, g, c, y, target.row(c, y));
  });
}

// Add a row to a map's gradient. The last stage to do so applies the activation's derivative too, and
// adds up what the normalisation needs.
template <class Act>
void settle(const Map& map, const Stage& stage, int slot, int64_t c, int64_t at,
            const V* row, Sums& sums) {
  const V mean = V{} + map.mean[c], scale = V{} + map.scale[c], shift = V{} + map.shift[c];
  V first{}, second{};
  const Stored* values = map.values + at;
  Stored* gradient = map.gradient + at;
  for (int64_t x = 0; x < map.width; x++) {
    V value = load(values[x]), d = row[x];
    if (stage.adds[slot]) d += load(gradient[x]);
    if (stage.finishes[slot]) d = Act::gradient(value * scale + shift, d);
    gradient[x] = stored(d);
    d = load(gradient[x]);
    first += d, second += d * (value - mean);
  }
  sums.add(c, first, second);
}

}  // namespace
