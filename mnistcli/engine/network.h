// A network's maps and stages, its pass forward and its pass backward.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "convolution.h"
#include "pool.h"
#include "vectors.h"
#if defined(HALVES)
#include "amx.h"
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

// A convolution's weights in the order in which they are read, single or as pairs of bf16.
struct Packed {
  std::vector<float> singles;
  std::vector<uint32_t> pairs;
};

class Network {
 public:
  std::vector<Map> maps;  // the pictures first, the logits last
  std::vector<Stage> stages;
  std::vector<Parameter> parameters;

  // `same`: the weights are those of the pass before.
  void forward(const float* images, int64_t pictures, bool training, bool same, int used,
               float* logits) {
    count = pictures, groups = (count + LANES - 1) / LANES, threads = used;
    reserve(training);
    packed.resize(stages.size() + 1);
    training ? train(images, logits) : read(images, same, logits);
  }

  void backward(const float* gradient) {
    for (int64_t g = 0; g < groups; g++) enter(g, gradient, maps.back(), maps.back().gradient, g);
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      if (convolves(*stage)) pack(*stage, true);
      clear_parts(std::max(maps[stage->input].channels, maps[stage->output].channels));
      weight_parts.assign(groups * weights_of(*stage), 0);
      each_group([&](int64_t g, Scratch& scratch) { differentiate(*stage, g, scratch); });
      if (stage->weight >= 0) add_up(*stage);
      if (stage->finishes[0]) differentiate_norm(maps[stage->input], parts[0]);
      if (stage->finishes[1]) differentiate_norm(maps[stage->other], parts[1]);
    }
  }

 private:
  // Stage by stage, for a batch's moments.
  void train(const float* images, float* logits) {
    each_group([&](int64_t g, Scratch&) { enter(g, images, maps[0], maps[0].values, g); });
    for (const Stage& stage : stages) {
      Map& out = maps[stage.output];
      measures = out.norm >= 0;
      if (measures) start_from_running(out);
      if (convolves(stage)) pack(stage, false);
      clear_parts(out.channels);
      each_group([&](int64_t g, Scratch& scratch) { compute(stage, g, scratch); });
      for (int more = 3; measures && more && cancels(out); more--) measure_again(out);
      if (measures) normalise(out);
    }
    for (int64_t g = 0; g < groups; g++) leave(g, g, logits);
  }

  // Group by group: its maps stay in the cache, one set of them a thread.
  void read(const float* images, bool same, float* logits) {
    measures = false;
    for (const Stage& stage : stages) {
      if (convolves(stage) && !same) pack(stage, false);
      if (maps[stage.output].norm >= 0) use_running(maps[stage.output]);
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
  std::vector<double> parts[3];  // two sums a channel and group: for input, other and bias

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
    for (auto& part : parts) part.assign(groups * 2 * channels, 0.0);
  }

  Sums sums(int which, int64_t g, int64_t channels, bool wanted, Scratch& scratch) {
    scratch.sums.assign(2 * channels, V{});
    return {scratch.sums, parts[which].data() + g * parts[which].size() / groups, wanted};
  }

  double over_groups(const std::vector<double>& part, int64_t index) const {
    double value = 0;
    for (size_t at = index; at < part.size(); at += part.size() / groups) value += part[at];
    return value;
  }

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

  // Read a group of a map as its readers see it, normalised and activated, row by row.
  template <class Target>
  static void unfold(const Map& map, int64_t g, Scratch& scratch, const Target& target) {
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
  static void unfold(const Map& map, int64_t g, Scratch&, const Planes& target) {
    with_activation(map.activation, [&](auto act) {
      for (int64_t c = 0; c < map.channels; c++)
        for (int64_t y = 0; y < map.height; y++)
          unfold_row<decltype(act)>(map, g, c, y, target.row(c, y));
    });
  }

  template <class Act>
  static void unfold_row(const Map& map, int64_t g, int64_t c, int64_t y, V* to) {
    const V scale = V{} + map.scale[c], shift = V{} + map.shift[c];
    const Stored* from = map.values + map.at(g, c, y, 0);
    for (int64_t x = 0; x < map.width; x++) to[x] = Act::value(load(from[x]) * scale + shift);
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
        V first{}, second{}, mean = V{} + out.mean[c];
        V bias = V{} + (stage.bias < 0 ? 0 : parameters[stage.bias].data[c]);
        Stored* to = out.values + out.at(g, c, y, 0);
        if (!measures) {
          for (int64_t x = 0; x < out.width; x++) to[x] = stored(*row++ + bias);
          continue;
        }
        for (int64_t x = 0; x < out.width; x++) {
          to[x] = stored(*row++ + bias);
          V apart = (load(to[x]) - mean) * lanes;
          first += apart, second += apart * apart;
        }
        moments.add(c, first, second);
      }
      moments.end_row();
    }
  }

  // One row of all output channels, [channels, width].
  void compute_row(const Stage& stage, const Planes& in, const Planes& other, int64_t y, V* row) {
    const Map& out = maps[stage.output];
    const int64_t k = stage.kernel;
    if (convolves(stage)) {
      Shape shape{maps[stage.input].channels, out.channels, k, out.height, out.width};
      auto convolution = stage.stride == 1 ? convolve<1> : convolve<2>;
      if (stage.kind == DEPTHWISE) convolution = stage.stride == 1 ? depthwise<1> : depthwise<2>;
      return convolution(shape, in, weights(stage).singles.data(), y, row);
    }
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
    const int64_t k = stage.kernel, stride = slot ? stage.stride : 1;
    if (convolves(stage)) {
      Shape shape{out.channels, map.channels, k, map.height, map.width};
      auto convolution = stage.kind == CONVOLUTION ? convolve<1> : depthwise<1>;
      return convolution(shape, gradients, packed.back().singles.data(), y, row);
    }
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

  // Add a row to a map's gradient. The last one who does takes it through the activation, and adds
  // up what the normalisation's gradient needs.
  template <class Act>
  static void settle(const Map& map, const Stage& stage, int slot, int64_t c, int64_t at,
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

  int64_t weights_of(const Stage& stage) const {
    int64_t inputs = stage.kind == DEPTHWISE ? 1 : maps[stage.input].channels;
    return maps[stage.output].channels * inputs * stage.kernel * stage.kernel;
  }

  // Bring a convolution's weights into the order in which they are read; backwards inputs and
  // outputs change places, and the taps their order.
  void pack(const Stage& stage, bool back) {
    const Parameter& weight = parameters[stage.weight];
    int64_t inputs = maps[stage.input].channels, outputs = maps[stage.output].channels;
    if (back) std::swap(inputs, outputs);
    const int64_t k = stage.kernel;
    Packed& to = back ? packed.back() : weights(stage);
    auto get = [&](int64_t o, int64_t i, int64_t y, int64_t x) {
      return weight.data[back ? weight.at(i, o, k - 1 - y, k - 1 - x) : weight.at(o, i, y, x)];
    };
#if defined(HALVES)
    if (tiled(stage) && !(back && stage.stride > 1))
      return tiles::pack(tiles::Cut(inputs, outputs, k), inputs, outputs, get, to.pairs);
#endif
    to.singles.clear();
    if (stage.kind == DEPTHWISE) {
      for (int64_t c = 0; c < outputs; c++)
        for (int64_t tap = 0; tap < k * k; tap++) {
          const int64_t at = back ? k * k - 1 - tap : tap;
          to.singles.push_back(weight.data[weight.at(c, 0, at / k, at % k)]);
        }
      return;
    }
    in_runs<LONGEST>(outputs, [&](int64_t first, auto run) {
      for (int64_t i = 0; i < inputs; i++)
        for (int64_t tap = 0; tap < k * k; tap++)
          for (int64_t c = first; c < first + run; c++)
            to.singles.push_back(get(c, i, tap / k, tap % k));
    });
  }

  // Add up the groups' parts of a stage's weight and bias gradients, in order.
  void add_up(const Stage& stage) const {
    const Parameter& weight = parameters[stage.weight];
    const int64_t total = weights_of(stage), k = stage.kernel;
    const int64_t inputs = total / (k * k) / maps[stage.output].channels;
    for (int64_t i = 0; i < total; i++) {
      double value = 0;
      for (int64_t g = 0; g < groups; g++) value += weight_parts[g * total + i];
      int64_t pair = i / (k * k);
      weight.gradient[weight.at(pair / inputs, pair % inputs, i / k % k, i % k)] = float(value);
    }
    if (stage.bias >= 0)
      for (int64_t c = 0; c < maps[stage.output].channels; c++)
        parameters[stage.bias].gradient[c] = float(over_groups(parts[2], 2 * c));
  }

  // The running mean is near the batch's after the first steps: the moments are taken around it.
  void start_from_running(Map& map) const {
    const float* running = parameters[map.norm + 2].data;
    for (int64_t c = 0; c < map.channels; c++)  // its square overflows, or NaN
      map.mean[c] = std::abs(running[c]) < 1e15f ? running[c] : 0.0f;
  }

  struct Moments {
    double offset, var;  // of the batch's mean from where it was looked for; NaN stays
  };

  Moments moments(const Map& map, int64_t c) const {
    const double pixels = double(count * map.pixels());
    double offset = over_groups(parts[0], 2 * c) / pixels;
    double var = over_groups(parts[0], 2 * c + 1) / pixels - offset * offset;
    return {offset, var < 0 ? 0 : var};  // by rounding
  }

  // A lane adds up a row's 28 squares in fp32: a variance is right to 30 · 2^-24 of itself and of
  // the squared offset. Up to 16 times the variance that is 4e-5.
  bool cancels(const Map& map) const {
    for (int64_t c = 0; c < map.channels; c++) {
      Moments found = moments(map, c);
      if (found.offset * found.offset > 16 * (found.var + map.eps)) return true;
    }
    return false;
  }

  // Take the moments around the mean found; the third is near from wherever the first was.
  void measure_again(Map& map) {
    for (int64_t c = 0; c < map.channels; c++) map.mean[c] += float(moments(map, c).offset);
    clear_parts(map.channels);
    each_group([&](int64_t g, Scratch& scratch) {
      const V lanes = present(g);
      Sums sought = sums(0, g, map.channels, true, scratch);
      for (int64_t y = 0; y < map.height; y++) {
        for (int64_t c = 0; c < map.channels; c++) {
          const Stored* value = map.values + map.at(g, c, y, 0);
          const V mean = V{} + map.mean[c];
          V first{}, second{};
          for (int64_t x = 0; x < map.width; x++) {
            V apart = (load(value[x]) - mean) * lanes;
            first += apart, second += apart * apart;
          }
          sought.add(c, first, second);
        }
        sought.end_row();
      }
    });
  }

  void normalise(Map& map) {
    const Parameter* p = &parameters[map.norm];
    const double pixels = double(count * map.pixels());
    for (int64_t c = 0; c < map.channels; c++) {
      const auto [offset, var] = moments(map, c);
      double unbiased = pixels > 1 ? var * pixels / (pixels - 1) : var;
      p[2].data[c] += float(map.momentum * (map.mean[c] - p[2].data[c] + offset));
      p[3].data[c] += float(map.momentum * (unbiased - p[3].data[c]));
      set_affine(map, c, float(map.mean[c] + offset), float(1 / std::sqrt(var + map.eps)));
    }
  }

  void use_running(Map& map) const {
    const Parameter* p = &parameters[map.norm];
    for (int64_t c = 0; c < map.channels; c++)
      set_affine(map, c, p[2].data[c], float(1 / std::sqrt(double(p[3].data[c]) + map.eps)));
  }

  void set_affine(Map& map, int64_t c, float mean, float rstd) const {
    map.mean[c] = mean, map.rstd[c] = rstd;
    map.scale[c] = parameters[map.norm].data[c] * rstd;
    map.shift[c] = parameters[map.norm + 1].data[c] - mean * map.scale[c];
  }

  // Ioffe and Szegedy, arXiv:1502.03167, section 3:
  // dx = scale · (d - mean(d) - (x - mean) · rstd² · mean(d · (x - mean)))
  void differentiate_norm(Map& map, const std::vector<double>& part) const {
    if (map.norm < 0) return;
    const double pixels = double(count * map.pixels());
    for (int64_t c = 0; c < map.channels; c++) {
      double plain = over_groups(part, 2 * c), apart = over_groups(part, 2 * c + 1);
      parameters[map.norm].gradient[c] = float(apart * map.rstd[c]);
      parameters[map.norm + 1].gradient[c] = float(plain);
      double steep = double(map.scale[c]) * map.rstd[c] * map.rstd[c] * apart / pixels;
      map.slope[c] = float(-steep);
      map.constant[c] = float(steep * map.mean[c] - map.scale[c] * plain / pixels);
    }
  }
};

// Say who adds to a map's gradient first and last, and where the gradient lies: maps whose gradients
// are never needed at a time share a place.
void plan_gradients(Network& network) {
  struct Life {
    int first = -1, last = -1, slot = 0;  // stages, counted backwards
  };
  std::vector<Life> lives(network.maps.size());
  const int stages = int(network.stages.size());
  lives.back().first = 0;
  for (int turn = 0; turn < stages; turn++) {
    Stage& stage = network.stages[stages - 1 - turn];
    for (int slot = 0; slot < (stage.kind == ADD ? 2 : 1); slot++) {
      Life& life = lives[slot ? stage.other : stage.input];
      stage.adds[slot] = life.first >= 0;
      if (life.first < 0) life.first = turn;
      life.last = turn, life.slot = slot;
    }
  }
  for (size_t map = 0; map < lives.size(); map++)
    if (lives[map].last >= 0)
      network.stages[stages - 1 - lives[map].last].finishes[lives[map].slot] = true;
  for (int turn = 0; turn < stages; turn++) lives[network.stages[stages - 1 - turn].output].last = turn;
  for (size_t map = lives.size(); map-- > 1;) {  // in the order in which they are begun
    Map& mine = network.maps[map];
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t other = map + 1; other < lives.size(); other++) {
        const Map& taken = network.maps[other];
        bool both = lives[other].first <= lives[map].last && lives[map].first <= lives[other].last;
        if (both && mine.place < taken.place + taken.channels * taken.pixels() &&
            taken.place < mine.place + mine.channels * mine.pixels())
          mine.place = taken.place + taken.channels * taken.pixels(), moved = true;
      }
    }
  }
}

}  // namespace
