// ThreadEnd: by which a detached thread says that it has ended, and another one waits for that.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "channel/doorbell.h"
#include "os/clock.h"
#include "os/wait.h"

namespace typhon::worker {

class ThreadEnd {
 public:
  // The last thing that the thread does: whatever it used may go away then.
  void tell() noexcept {
    ended_.store(1, std::memory_order_seq_cst);
    os::wake_word(ended_, 1);
  }
  // False: not within `limit_ns`. `nudge()` is called first, and again every 10 ms.
  template <class Nudge>
  [[nodiscard]] bool wait(std::int64_t limit_ns, Nudge nudge) noexcept {
    constexpr std::int64_t kNudgeNs = 10'000'000;
    const std::uint64_t limit = os::monotonic_ns() + static_cast<std::uint64_t>(limit_ns);
    while (ended_.load(std::memory_order_seq_cst) == 0) {
      const std::uint64_t now = os::monotonic_ns();
      if (now >= limit) return false;
      nudge();
      os::wait_word(ended_, 0, std::min(kNudgeNs, static_cast<std::int64_t>(limit - now)));
    }
    return true;
  }

 private:
  std::atomic<std::uint32_t> ended_{0};  // a futex
};

}  // namespace typhon::worker
