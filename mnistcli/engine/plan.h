// Which stage adds to which gradient, and where the gradients lie.

#pragma once

#include <vector>

#include "map.h"

namespace {

// Say who adds to a map's gradient first and last, and where the gradient lies: maps whose
// gradients are never needed at the same time share a place.
void plan_gradients(std::vector<Map>& maps, std::vector<Stage>& all) {
  struct Life {
    int first = -1, last = -1, slot = 0;  // stages, counted backwards
  };
  std::vector<Life> lives(maps.size());
  const int stages = int(all.size());
  lives.back().first = 0;
  for (int turn = 0; turn < stages; turn++) {
    Stage& stage = all[stages - 1 - turn];
    for (int slot = 0; slot < (stage.kind == ADD ? 2 : 1); slot++) {
      Life& life = lives[slot ? stage.other : stage.input];
      stage.adds[slot] = life.first >= 0;
      if (life.first < 0) life.first = turn;
      life.last = turn, life.slot = slot;
    }
  }
  for (size_t map = 0; map < lives.size(); map++)
    if (lives[map].last >= 0)
      all[stages - 1 - lives[map].last].finishes[lives[map].slot] = true;
  for (int turn = 0; turn < stages; turn++) lives[all[stages - 1 - turn].output].last = turn;
  for (size_t map = lives.size(); map-- > 1;) {  // in the order in which they are begun
    Map& mine = maps[map];
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t other = map + 1; other < lives.size(); other++) {
        const Map& taken = maps[other];
        bool both = lives[other].first <= lives[map].last && lives[map].first <= lives[other].last;
        if (both && mine.place < taken.place + taken.channels * taken.pixels() &&
            taken.place < mine.place + mine.channels * mine.pixels())
          mine.place = taken.place + taken.channels * taken.pixels(), moved = true;
      }
    }
  }
}

}  // namespace
