#include "channel/doorbell.h"

#include <algorithm>

#include "channel/layout.h"
#include "os/clock.h"
#include "os/thread.h"
#include "os/wait.h"

namespace typhon::channel {

bool wake_from(std::atomic<std::uint32_t>& word, std::uint32_t from) noexcept {
  if (!word.compare_exchange_strong(from, kAwake, std::memory_order_acq_rel)) return false;
  os::wake_word(word, 1);
  return true;
}

std::uint64_t SpinGuard::yield_for_ns() noexcept {
  const std::uint64_t before = os::monotonic_ns();
  os::yield_core();
  return os::monotonic_ns() - before;
}

void SpinGuard::lost() noexcept {
  const std::uint32_t rest = next_rest_.load(std::memory_order_relaxed);
  rest_.store(rest, std::memory_order_relaxed);
  next_rest_.store(std::min(rest * 2, kLongRest), std::memory_order_relaxed);
}

}  // namespace typhon::channel
