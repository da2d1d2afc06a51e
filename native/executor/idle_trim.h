// IdleTrim: when an idle worker gives back the memory that its jobs have freed.
//
// A busy worker keeps it: to map it anew costs a call more than to use it. What has been idle for a while
// gives it back, once. So whoever has used memory says so (note_used()), a thread that is about to sleep asks
// for how long at most (rest()), and one that has slept asks whether the time has come (take_due()): true for
// one of them, and then not again before note_used().
//
// Any thread. A busy worker pays one load for a call.
#pragma once

#include <atomic>
#include <cstdint>

namespace typhon::executor {

class IdleTrim {
 public:
  static constexpr std::uint64_t kAfterNs = 5'000'000'000;

  // True when nobody may be sleeping with a limit: some thread has to be woken, which then rests.
  [[nodiscard]] bool note_used() noexcept {
    if (state_.load(std::memory_order_relaxed) == kUsed) return false;
    return state_.exchange(kUsed, std::memory_order_seq_cst) == kTrimmed;
  }

  // For how long a thread may sleep, in nanoseconds; negative: there is nothing to give back.
  [[nodiscard]] std::int64_t rest(std::uint64_t now) noexcept {
    std::uint32_t state = state_.load(std::memory_order_seq_cst);
    if (state == kTrimmed) return -1;
    if (state == kUsed) {
      since_.store(now, std::memory_order_relaxed);
      state_.compare_exchange_strong(state, kResting, std::memory_order_seq_cst);
    }
    const std::uint64_t due = since_.load(std::memory_order_relaxed) + kAfterNs;
    return due > now ? static_cast<std::int64_t>(due - now) : 0;
  }

  // Whether there has been nothing to do for so long.
  [[nodiscard]] bool is_over(std::uint64_t now) const noexcept {
    return state_.load(std::memory_order_acquire) != kUsed &&
           now >= since_.load(std::memory_order_relaxed) + kAfterNs;
  }

  [[nodiscard]] bool take_due(std::uint64_t now) noexcept {
    std::uint32_t state = kResting;
    if (state_.load(std::memory_order_acquire) != state) return false;
    if (now < since_.load(std::memory_order_relaxed) + kAfterNs) return false;
    return state_.compare_exchange_strong(state, kTrimmed, std::memory_order_acq_rel);
  }

 private:
  enum : std::uint32_t { kTrimmed, kUsed, kResting };
  // What a start has left behind, too.
  std::atomic<std::uint32_t> state_{kUsed};
  std::atomic<std::uint64_t> since_{0};
};

}  // namespace typhon::executor
