// Incoming: a frame that was taken out of the request ring and has not been dealt with.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "channel/layout.h"
#include "channel/loan.h"

namespace typhon::worker {

// Its loans go with it, wherever it is dropped.
struct Incoming {
  channel::FrameHeader header;
  std::vector<std::uint8_t> body;
  channel::FrameLoans loans = {};
};

template <class T>
std::optional<T> take_first(std::deque<T>& queue) noexcept {
  if (queue.empty()) return std::nullopt;
  std::optional<T> first(std::move(queue.front()));
  queue.pop_front();
  return first;
}

}  // namespace typhon::worker
