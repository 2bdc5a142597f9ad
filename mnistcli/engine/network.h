// A network's pass forward and its pass backward.

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "convolution.h"
#include "map.h"
#include "norm.h"
#include "plan.h"
#include "pool.h"
#include "pooling.h"
#include "rows.h"
#include "weights.h"
#if defined(HALVES)
#include "amx.h"
#endif

namespace {

class Network {
 public:
  std::vector<Map> maps;  // the pictures first, the logits last
  std::vector<Stage> stages;
  std::vector<Parameter> parameters;

  void forward(const float* images, int64_t pictures, bool training, int used, float* logits) {
    count = pictures, groups = (count + LANES - 1) / LANES, threads = used;
    reserve(training);
    packed.resize(stages.size() + 1);
    training ? train(images, logits) : read(images, logits);
  }

  void backward(const float* gradient) {
    for (int64_t g = 0; g < groups; g++) enter(g, gradient, maps.back(), maps.back().gradient, g);
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      if (convolves(*stage)) pack(*stage, true);
      clear_parts(std::max(maps[stage->input].channels, maps[stage->output].channels));
      weight_parts.assign(groups * weights_of(*stage), 0);
      each_group([&](int64_t g, Scratch& scratch) { differentiate(*stage, g, scratch); });
      if (stage->weight >= 0) finish_weights(*stage);
      if (stage->finishes[0]) finish_norm(maps[stage->input], parts[0]);
      if (stage->finishes[1]) finish_norm(maps[stage->other], parts[1]);
    }
  }

 private:
  // Stage by stage, for a batch's moments.
  void train(const float* images, float* logits) {
    each_group([&](int64_t g, Scratch&) { enter(g, images, maps[0], maps[0].values, g); });
    for (const Stage& stage : stages) {
      Map& out = maps[stage.output];
      measures = out.norm >= 0;
      if (measures) start_from_running(out, norm(out));
      if (convolves(stage)) pack(stage, false);
      clear_parts(out.channels);
      each_group([&](int64_t g, Scratch& scratch) { compute(stage, g, scratch); });
      for (int more = 3; measures && more && cancels(out, parts[0], pixels(out)); more--)
        measure_again(out);
      if (measures) normalise(out, norm(out), parts[0], pixels(out));
    }
    for (int64_t g = 0; g < groups; g++) leave(g, g, logits);
  }

  // Group by group: its maps stay in the cache, one set of them a thread.
  void read(const float* images, float* logits) {
    measures = false;
    for (const Stage& stage : stages) {
      if (convolves(stage)) pack_changed(stage);
      if (Map& out = maps[stage.output]; out.norm >= 0) use_running(out, norm(out));
    }
    each_group([&](int64_t g, Scratch& scratch) {
      const int64_t place = &scratch - scratches.data();  // the thread's
      enter(g, images, maps[0], maps[0].values, place);
      for (const Stage& stage : stages) compute(stage, place, scratch);
      leave(g, place, logits);
    });
  }

  int64_t count = 0, groups = 0;
  int threads = 1;
  bool measures = false;  // whether the map in work is to be normalised by its own moments
  std::vector<Stored> memory[2];  // of values and gradients
  std::vector<Scratch> scratches;
  std::vector<Packed> packed;  // of each stage, for the way there; then the one for the way back
  std::vector<float> weight_parts;
  Parts parts[3];  // for input, other and bias

  V present(int64_t group) const {
    V lanes{};
    for (int i = 0; i < LANES && group * LANES + i < count; i++) lanes[i] = 1;
    return lanes;
  }

  template <class Work>
  void each_group(Work work) {
    static Pool& pool = *new Pool;  // never destroyed: its threads outlive main
    pool.run(threads, groups, [&](int64_t g, int thread) { work(g, scratches[thread]); });
  }

  void reserve(bool training) {
    scratches.resize(std::max<size_t>(scratches.size(), threads));
    const int64_t kept = training ? groups : threads;
    int64_t total = 0, most = 0;
    for (const Map& map : maps) {
      total += map.at(kept, 0, 0, 0);
      most = std::max(most, map.place + map.channels * map.pixels());
    }
    if (int64_t(memory[0].size()) < total) memory[0] = std::vector<Stored>(total);
    if (training && int64_t(memory[1].size()) < groups * most)
      memory[1] = std::vector<Stored>(groups * most);
    Stored* values = memory[0].data();
    for (Map& map : maps) {
      map.values = values, values += map.at(kept, 0, 0, 0);
      map.gradient = memory[1].data() + groups * map.place;
    }
  }

  void clear_parts(int64_t channels) {
    for (Parts& part : parts) part.clear(groups, channels);
  }

  Sums sums(int which, int64_t g, int64_t channels, bool wanted, Scratch& scratch) {
    scratch.sums.assign(2 * channels, V{});
    return {scratch.sums, parts[which].of(g), wanted};
  }

  const Parameter* norm(const Map& map) const { return &parameters[map.norm]; }

  double pixels(const Map& map) const { return double(count * map.pixels()); }

  // Turn one group of torch's [pictures, channels, height, width] into a map's at `place`.
  void enter(int64_t g, const float* from, const Map& map, Stored* to, int64_t place) const {
    const int64_t size = map.channels * map.pixels();
    for (int64_t c = 0; c < map.channels; c++)
      for (int64_t p = 0; p < map.pixels(); p++) {
        V lanes{};
        for (int lane = 0; lane < LANES && g * LANES + lane < count; lane++)
          lanes[lane] = from[(g * LANES + lane) * size + c * map.pixels() + p];
        to[map.at(place, c, 0, 0) + p] = stored(lanes);
      }
  }

  // Turn the last map's group at `place` into one of torch's [pictures, classes].
  void leave(int64_t g, int64_t place, float* to) const {
    const Map& map = maps.back();
    for (int64_t n = g * LANES; n < std::min(count, (g + 1) * LANES); n++)
      for (int64_t c = 0; c < map.channels; c++)
        to[n * map.channels + c] = load(map.values[map.at(place, c, 0, 0)])[n % LANES];
  }

  // Read the gradient of a group of a map's stored values, row by row; lanes without a picture
  // are 0. Targets take rows `stride` apart.
  template <class... Targets>
  void unfold_gradient(const Map& map, int64_t g, int64_t stride, Scratch& scratch,
                       const Targets&... targets) {
    const V lanes = present(g);
    Sums biases = sums(2, g, map.channels, true, scratch);
    scratch.row.resize(std::max<size_t>(scratch.row.size(), map.channels * map.width));
    for (int64_t y = 0; y < map.height; y++) {
      V* row = scratch.row.data();
      for (int64_t c = 0; c < map.channels; c++) {
        const V scale = map.scale[c] * lanes, slope = map.slope[c] * lanes;
        const V constant = map.constant[c] * lanes;
        const int64_t at = map.at(g, c, y, 0);
        V total{};
        for (int64_t x = 0; x < map.width; x++, row++) {
          V d = load(map.gradient[at + x]);
          *row = map.norm < 0 ? d * lanes  // an infinite value times a slope of 0 is NaN
                              : d * scale + load(map.values[at + x]) * slope + constant;
          total += *row;
        }
        biases.add(c, total, V{});
      }
      (targets.put_row(y, scratch.row.data(), map.width, stride), ...);
    }
    biases.end_row();
  }

  // Write one group of a stage's output, and where it is measured add up its moments around the
  // running mean.
  void compute(const Stage& stage, int64_t g, Scratch& scratch) {
    const Map& in = maps[stage.input];
#if defined(HALVES)
    const Map& out = maps[stage.output];
    if (tiled(stage)) {
      tiles::Pairs pairs(scratch.planes, in.channels, in.height, in.width, stage.border);
      unfold(in, g, scratch, pairs);
      const tiles::Cut cut(in.channels, out.channels, stage.kernel);
      const tiles::Shapes shapes(16, int(cut.depth));
      return keep(stage, g, scratch, [&](int64_t y, V* row) {
        tiles::convolve(cut, pairs, stage.stride, weights(stage).pairs.data(), y, out.width, row);
      });
    }
#endif
    Planes planes(scratch.planes, in.channels, in.height, in.width, stage.border);
    unfold(in, g, scratch, planes);
    const Map& map = maps[stage.kind == ADD ? stage.other : stage.input];
    Planes other(scratch.other, map.channels, map.height, map.width, 0);
    if (stage.kind == ADD) unfold(map, g, scratch, other);
    keep(stage, g, scratch,
         [&](int64_t y, V* row) { compute_row(stage, planes, other, y, row); });
  }

  template <class Row>
  void keep(const Stage& stage, int64_t g, Scratch& scratch, Row compute_row) {
    const Map& out = maps[stage.output];
    const V lanes = present(g);
    Sums moments = sums(0, g, out.channels, measures, scratch);
    scratch.row.resize(std::max<size_t>(scratch.row.size(), (out.channels + 15) * out.width));
    for (int64_t y = 0; y < out.height; y++) {
      const V* row = scratch.row.data();
      compute_row(y, scratch.row.data());
      for (int64_t c = 0; c < out.channels; c++) {
        const V bias = V{} + (stage.bias < 0 ? 0 : parameters[stage.bias].data[c]);
        Stored* to = out.values + out.at(g, c, y, 0);
        for (int64_t x = 0; x < out.width; x++) to[x] = stored(*row++ + bias);
        if (measures) measure_row(out, c, to, lanes, moments);
      }
      moments.end_row();
    }
  }

  // Add a stored row's differences from `map.mean`, and their squares, to the channel's moments.
  static void measure_row(const Map& map, int64_t c, const Stored* row, V lanes, Sums& moments) {
    const V mean = V{} + map.mean[c];
    V first{}, second{};
    for (int64_t x = 0; x < map.width; x++) {
      V apart = (load(row[x]) - mean) * lanes;
      first += apart, second += apart * apart;
    }
    moments.add(c, first, second);
  }

  // One row of all output channels, [channels, width].
  void compute_row(const Stage& stage, const Planes& in, const Planes& other, int64_t y, V* row) {
    const Map& out = maps[stage.output];
    if (!convolves(stage)) return pool_row(stage, out, in, other, y, row);
    Shape shape{maps[stage.input].channels, out.channels, stage.kernel, out.height, out.width};
    auto convolution = stage.stride == 1 ? convolve<1> : convolve<2>;
    if (stage.kind == DEPTHWISE) convolution = stage.stride == 1 ? depthwise<1> : depthwise<2>;
    convolution(shape, in, weights(stage).singles.data(), y, row);
  }

  // From the gradient of one group of a stage's output to those of its weights and inputs.
  void differentiate(const Stage& stage, int64_t g, Scratch& scratch) {
    const Map &in = maps[stage.input], &out = maps[stage.output];
    const bool weighs = convolves(stage);
    float* part = weight_parts.data() + g * weights_of(stage);
    const int64_t around = weighs ? stage.kernel - 1 - stage.border : 0;
#if defined(HALVES)
    if (tiled(stage) && stage.stride == 1) {
      tiles::Columns columns(scratch.planes, in.channels, in.height, in.width, stage.border);
      tiles::Rows rows(scratch.other, out.channels, out.height, out.width);
      tiles::Pairs pairs(scratch.gradients, out.channels, out.height, out.width, around);
      unfold(in, g, scratch, columns);
      unfold_gradient(out, g, 1, scratch, rows, pairs);
      {
        const tiles::Shapes shapes(16, 16);
        tiles::weight_gradient(columns, rows, stage.kernel, out.height, part);
      }
      const tiles::Cut cut(out.channels, in.channels, stage.kernel);
      const tiles::Shapes shapes(16, int(cut.depth));
      return pass_back(stage, 0, g, scratch, [&](int64_t y, V* row) {
        tiles::convolve(cut, pairs, 1, packed.back().pairs.data(), y, in.width, row);
      });
    }
#endif
    const int64_t stride = weighs ? stage.stride : 1;
    const int64_t reach = weighs ? stage.kernel - 1 - 2 * stage.border : 0;
    const int64_t height = stride > 1 ? in.height - reach : out.height;
    const int64_t width = stride > 1 ? in.width - reach : out.width;
    Planes planes(scratch.planes, in.channels, in.height, in.width, stage.border);
    Planes gradients(scratch.gradients, out.channels, height, width, around);
    if (stride > 1) std::fill(scratch.gradients.begin(), scratch.gradients.end(), V{});
    unfold(in, g, scratch, planes);
    unfold_gradient(out, g, stride, scratch, gradients);
    if (weighs) {
      Shape shape{in.channels, out.channels, stage.kernel, out.height, out.width};
      scratch.weights.assign(weights_of(stage), V{});
      auto gradient_of = stage.kind == CONVOLUTION ? weight_gradient : depthwise_gradient;
      gradient_of(shape, gradients, planes, stride, scratch.weights.data());
      for (const V& total : scratch.weights) *part++ = float(sum(total));
    }
    for (int slot = 0; slot < (stage.kind == ADD ? 2 : 1); slot++)
      pass_back(stage, slot, g, scratch, [&](int64_t y, V* row) {
        differentiate_row(stage, slot, gradients, planes, y, row);
      });
  }

  // Add to the gradient of a stage's input, row by row.
  template <class Row>
  void pass_back(const Stage& stage, int slot, int64_t g, Scratch& scratch, Row differentiate_row) {
    const int64_t index = slot ? stage.other : stage.input;
    if (index == 0) return;
    const Map& map = maps[index];
    Sums totals = sums(slot, g, map.channels, stage.finishes[slot] && map.norm >= 0, scratch);
    scratch.row.resize(std::max<size_t>(scratch.row.size(), (map.channels + 15) * map.width));
    for (int64_t y = 0; y < map.height; y++) {
      const V* row = scratch.row.data();
      differentiate_row(y, scratch.row.data());
      for (int64_t c = 0; c < map.channels; c++, row += map.width)
        with_activation(map.activation, [&](auto act) {
          settle<decltype(act)>(map, stage, slot, c, map.at(g, c, y, 0), row, totals);
        });
      totals.end_row();
    }
  }

  static bool convolves(const Stage& stage) {
    return stage.kind == CONVOLUTION || stage.kind == DEPTHWISE;
  }

  Packed& weights(const Stage& stage) { return packed[&stage - stages.data()]; }

  // Whether matrix tiles compute a stage: with one channel, or on few pixels, they gain nothing.
  bool tiled(const Stage& stage) const {
    const Map &in = maps[stage.input], &out = maps[stage.output];
    return stage.kind == CONVOLUTION && in.channels > 3 && out.pixels() > 1;
  }

  // One row of the gradient of all channels of an input, [channels, width].
  void differentiate_row(const Stage& stage, int slot, const Planes& gradients, const Planes& in,
                         int64_t y, V* row) {
    const Map &map = maps[slot ? stage.other : stage.input], &out = maps[stage.output];
    if (!convolves(stage)) return differentiate_pool_row(stage, slot, map, gradients, in, y, row);
    Shape shape{out.channels, map.channels, stage.kernel, map.height, map.width};
    auto convolution = stage.kind == CONVOLUTION ? convolve<1> : depthwise<1>;
    convolution(shape, gradients, packed.back().singles.data(), y, row);
  }

  int64_t weights_of(const Stage& stage) const {
    int64_t inputs = stage.kind == DEPTHWISE ? 1 : maps[stage.input].channels;
    return maps[stage.output].channels * inputs * stage.kernel * stage.kernel;
  }

  // Evaluation reads many batches with the same weights: to compare them costs less than to pack.
  void pack_changed(const Stage& stage) {
    const float* now = parameters[stage.weight].data;
    const int64_t total = weights_of(stage);
    std::vector<float>& source = weights(stage).source;
    if (!source.empty() && !std::memcmp(source.data(), now, total * sizeof *now)) return;
    pack(stage, false);
    source.assign(now, now + total);
  }

  // Pack a stage's weights for the pass forward or `back`.
  void pack(const Stage& stage, bool back) {
    const Map &in = maps[stage.input], &out = maps[stage.output];
    const Weights from(parameters[stage.weight], stage, in, out, back);
    Packed& to = back ? packed.back() : weights(stage);
    to.source.clear();  // until packing has succeeded: memory may run out
#if defined(HALVES)
    if (tiled(stage) && !(back && stage.stride > 1)) {
      const tiles::Cut cut(from.inputs, from.outputs, stage.kernel);
      return tiles::pack(cut, from.inputs, from.outputs, from, to.pairs);
    }
#endif
    stage.kind == DEPTHWISE ? from.pack_depthwise(to.singles) : from.pack_dense(to.singles);
  }

  void finish_weights(const Stage& stage) const {
    const int64_t outputs = maps[stage.output].channels, total = weights_of(stage);
    const int64_t inputs = total / (stage.kernel * stage.kernel) / outputs;
    add_up(weight_parts, total, inputs, stage.kernel, parameters[stage.weight]);
    if (stage.bias >= 0)
      for (int64_t c = 0; c < outputs; c++)
        parameters[stage.bias].gradient[c] = float(parts[2].over_groups(2 * c));
  }

  void finish_norm(Map& map, const Parts& totals) const {
    if (map.norm >= 0) differentiate_norm(map, norm(map), totals, pixels(map));
  }

  // Take the moments around the mean found; the third is near from wherever the first was.
  void measure_again(Map& map) {
    for (int64_t c = 0; c < map.channels; c++)
      map.mean[c] += float(moments(parts[0], pixels(map), c).offset);
    clear_parts(map.channels);
    each_group([&](int64_t g, Scratch& scratch) {
      const V lanes = present(g);
      Sums sought = sums(0, g, map.channels, true, scratch);
      for (int64_t y = 0; y < map.height; y++) {
        for (int64_t c = 0; c < map.channels; c++)
          measure_row(map, c, map.values + map.at(g, c, y, 0), lanes, sought);
        sought.end_row();
      }
    });
  }
};

}  // namespace
