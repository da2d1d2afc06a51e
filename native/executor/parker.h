// Parker: where one thread sleeps until another one wakes it.
//
// The sleeper calls reset(), looks whether there is something to do, and parks if not; a waker makes that
// something true first, then unparks. park() also returns after a signal and after its limit.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/doorbell.h"

namespace typhon::executor {

class Parker {
 public:
  Parker() noexcept = default;
  Parker(const Parker&) = delete;
  Parker& operator=(const Parker&) = delete;
  ~Parker() = default;

  void reset() noexcept { word_.store(0, std::memory_order_seq_cst); }
  // `limit_ns` negative: without a limit.
  void park(std::int64_t limit_ns) noexcept { channel::futex_wait(word_, 0, limit_ns); }
  // Any thread.
  void unpark() noexcept {
    if (word_.exchange(1, std::memory_order_seq_cst) == 0) channel::futex_wake(word_, 1);
  }

 private:
  std::atomic<std::uint32_t> word_{0};
};

}  // namespace typhon::executor
