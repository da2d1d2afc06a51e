// Parker: where one thread sleeps until another one wakes it.
//
// The sleeper calls reset(), looks whether there is something to do, and parks if not; a waker makes that
// something true first, then unparks. park() also returns after a signal and after its limit. A sleeper that
// has not parked yet costs its waker no system call.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/doorbell.h"
#include "os/wait.h"

namespace typhon::worker {

class Parker {
 public:
  Parker() noexcept = default;
  Parker(const Parker&) = delete;
  Parker& operator=(const Parker&) = delete;
  ~Parker() = default;

  void reset() noexcept { word_.store(kEmpty, std::memory_order_seq_cst); }
  // `limit_ns` negative: without a limit.
  void park(std::int64_t limit_ns) noexcept {
    std::uint32_t empty = kEmpty;
    if (word_.compare_exchange_strong(empty, kParked, std::memory_order_seq_cst))
      os::wait_word(word_, kParked, limit_ns);
  }
  // Any thread.
  void unpark() noexcept {
    if (word_.exchange(kSet, std::memory_order_seq_cst) == kParked) os::wake_word(word_, 1);
  }
  [[nodiscard]] bool is_set() const noexcept { return word_.load(std::memory_order_relaxed) == kSet; }

 private:
  enum : std::uint32_t { kEmpty, kSet, kParked };
  std::atomic<std::uint32_t> word_{kEmpty};
};

}  // namespace typhon::worker
