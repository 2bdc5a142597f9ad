// Forward and backward pass of a small convolution network in fp32, with pictures in the lanes.
//
// 8 to 16 channels do not fill vector registers; as many pictures as a register has lanes always
// do. A feature map is [groups, channels, height, width, LANES], so that every operation is a plain
// vertical loop. A map is stored as its stage wrote it; batch normalisation and activation are
// applied where it is read, and its moments are taken while it is written: no pass over memory of
// their own. A stage is one parallel region with a group of pictures an item. Sums go over the
// groups in their order, so that bits do not depend on the number of threads. Evaluation needs no
// moments: there a group goes through all stages at once, and its maps stay in the cache.
//
// Here is what `lanes.py` calls. network.h: the two passes. Below it: vectors.h (a register and its
// lanes), pool.h (threads), map.h (maps and stages), convolution.h and amx.h (products), pooling.h
// (stages without weights), rows.h (reading maps, adding gradients), weights.h, norm.h, and plan.h
// (where gradients lie).

#include <memory>
#include <new>

#include "network.h"

extern "C" {

// Words and numbers as `lanes.py` writes them; null where memory is short.
Network* lanes_create(const int64_t* words, const double* numbers) try {
  auto network = std::make_unique<Network>();
  int64_t maps = *words++, stages = *words++, parameters = *words++;
  for (; maps--; words += 5, numbers += 2) {
    Map map{words[0], words[1], words[2], words[3], words[4], numbers[0], numbers[1]};
    for (auto* v : {&map.mean, &map.rstd, &map.shift, &map.slope, &map.constant})
      v->assign(map.channels, 0);
    map.scale.assign(map.channels, 1);
    network->maps.push_back(map);
  }
  for (; stages--; words += 9)
    network->stages.push_back({words[0], words[1], words[2], words[3], words[4], words[5],
                               words[6], words[7], words[8]});
  for (; parameters--; words += 4)
    network->parameters.push_back({{words[0], words[1], words[2], words[3]}});
  plan_gradients(network->maps, network->stages);
  return network.release();
} catch (const std::bad_alloc&) {
  return nullptr;
}

void lanes_destroy(Network* network) { delete network; }

// Both return whether there was memory enough.
bool lanes_forward(Network* network, float* const* data, const float* images, int64_t pictures,
                   bool training, int threads, float* logits) try {
  for (Parameter& parameter : network->parameters) parameter.data = *data++;
  network->forward(images, pictures, training, threads, logits);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

bool lanes_backward(Network* network, float* const* gradients, const float* gradient) try {
  for (Parameter& parameter : network->parameters) parameter.gradient = *gradients++;
  network->backward(gradient);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}
}
