// A vector register of floats, one picture a lane, and what is done with it value by value.

#pragma once

#include <cstdint>
#include <type_traits>

#define UNROLL _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, LONGEST = 3;  // of 32 registers 3 channels × 7 pixels take 21
#elif defined(__AVX__)
constexpr int LANES = 8, LONGEST = 1;  // of 16
#else
constexpr int LANES = 4, LONGEST = 3;
#endif
constexpr int PIXELS = 7;  // of a row at once: 28, 14 and 7 are multiples

typedef float V __attribute__((vector_size(4 * LANES)));

inline double sum(V value) {
  double total = 0;
  for (int i = 0; i < LANES; i++) total += value[i];
  return total;
}

template <int N>
using Length = std::integral_constant<int, N>;

// Split channels into runs of 3, 2 and 1, lengths that the compiler knows; 1 only where it must be.
template <int MOST, class Work>
inline void in_runs(int64_t channels, Work work) {
  for (int64_t first = 0, left; (left = channels - first) > 0;) {
    if (MOST >= 3 && (left == 3 || left > 4)) work(first, Length<3>()), first += 3;
    else if (MOST >= 2 && left > 1) work(first, Length<2>()), first += 2;
    else work(first, Length<1>()), first += 1;
  }
}

// An activation of v, and what it lets through of the gradient d of its output.
struct Identity {
  static V value(V v) { return v; }
  static V gradient(V, V d) { return d; }
};

struct ReLU {
  static V value(V v) { return v <= 0 ? V{} : v; }
  static V gradient(V v, V d) { return v <= 0 ? V{} : d; }
};

// v · min(max(v + 3, 0), 6) / 6: Howard et al. 2019, arXiv:1905.02244, section 5.2.
struct Hardswish {
  static V value(V v) {
    V gate = v + 3;
    gate = gate < 0 ? V{} : gate;
    gate = gate > 6 ? V{} + 6 : gate;
    return v * gate * (1.0f / 6);
  }
  static V gradient(V v, V d) {
    V inside = v >= 3 ? d : d * (v * (1.0f / 3) + 0.5f);
    return v <= -3 ? V{} : inside;
  }
};

template <class Work>
inline void with_activation(int64_t kind, Work work) {
  if (kind == 1) return work(ReLU());
  if (kind == 2) return work(Hardswish());
  work(Identity());
}

// Return `yes` where b takes the place of the maximum a before it, as in torch: the last NaN wins,
// else the first maximum.
inline V if_over(V a, V b, V yes, V no) {
  V larger = a < b ? yes : no;
  return b != b ? yes : larger;
}

inline V larger(V a, V b) { return if_over(a, b, b, a); }

}  // namespace
