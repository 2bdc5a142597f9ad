// The kernels' own threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <system_error>
#include <thread>

namespace {

// Threads that take items one by one. One that has to share its core delays the others by no more
// than the item in its hands, and who waits sleeps after some 20 microseconds: less, and a step of v3
// on two cores takes 6 % longer.
class Pool {
 public:
  using Work = std::function<void(int64_t item, int thread)>;

  void run(int threads, int64_t items, const Work& todo) {
    threads = int(std::min<int64_t>({threads, items, 255}));
    if (threads <= 1) {
      for (int64_t item = 0; item < items; item++) todo(item, 0);
      return;
    }
    try {
      for (; started < threads - 1; started++)
        std::thread([this, index = started + 1] { serve(index); }).detach();
    } catch (const std::system_error&) {  // the machine gives no more: fewer do the same
    }
    work = &todo, done = 0;
    // A region in one word: which it is, its threads, its items, the next item.
    ticket = uint64_t(++region) << 48 | uint64_t(threads) << 40 | uint64_t(items) << 20;
    turn++;
    turn.notify_all();
    take(0);
    wait(done, [items](int finished) { return finished == items; });
  }

 private:
  void take(int index) {
    for (uint64_t seen = ticket; int64_t(seen & 0xfffff) < int64_t(seen >> 20 & 0xfffff) &&
                                 index < int(seen >> 40 & 0xff);) {
      if (!ticket.compare_exchange_weak(seen, seen + 1)) continue;
      (*work)(seen & 0xfffff, index);
      if (++done == int(seen >> 20 & 0xfffff)) done.notify_all();
      seen = ticket;
    }
  }

  void serve(int index) {
    for (int seen = turn;; seen = turn) {
      take(index);
      wait(turn, [seen](int now) { return now != seen; });
    }
  }

  template <class Enough>
  static void wait(std::atomic<int>& value, Enough enough) {
    for (int spin = 0; spin < 20000; spin++)
      if (enough(value)) return;
    for (int seen = value; !enough(seen); seen = value) value.wait(seen);
  }

  std::atomic<uint64_t> ticket{0};
  std::atomic<int> turn{0}, done{0};
  int started = 0;
  uint16_t region = 0;
  const Work* work = nullptr;
};

}  // namespace
