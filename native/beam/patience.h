// Patience: whether it pays a caller to look for what comes, judged by what calls on its channel have come to
// lately.
//
// All of it are hints, and any thread may call: a lost update does no harm.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/doorbell.h"
#include "os/clock.h"

namespace typhon::beam {

class Patience {
 public:
  // So many calls, or replies at once, are a crowd of callers: they do not spin but poll.
  static constexpr std::uint32_t kCrowd = 4;

  // 0: nobody spins.
  explicit Patience(std::uint64_t spin_ns) noexcept : spin_ns_(spin_ns) {}

  [[nodiscard]] std::uint64_t spin_ns() const noexcept { return spin_ns_; }

  // --- crowds ---
  [[nodiscard]] bool was_crowded(std::uint64_t now) const noexcept {
    return now < crowded_until_ns_.load(std::memory_order_relaxed);
  }
  void count_replies(std::uint32_t replies, std::uint64_t now) noexcept {
    if (replies >= kCrowd) crowded_until_ns_.store(now + kCrowdNs, std::memory_order_relaxed);
  }

  // --- spinning for the answer to a call ---
  [[nodiscard]] bool call_pays() noexcept {
    const std::uint32_t misses = call_misses_.load(std::memory_order_relaxed);
    const bool pays = misses < kCallMisses || misses % kSpinRetryEvery == 0;
    if (!pays) call_misses_.store(misses + 1, std::memory_order_relaxed);
    return pays && may_spin();
  }
  void call_found() noexcept { call_misses_.store(0, std::memory_order_relaxed); }
  // Its answer came too late for whoever spun, after so long.
  void call_missed(std::uint64_t took_ns) noexcept {
    const bool long_call = took_ns > spin_ns_ * kLongCall;
    call_misses_.store(long_call ? call_misses_.load(std::memory_order_relaxed) + 1 : 0,
                       std::memory_order_relaxed);
  }

  // --- spinning for what Python makes of an answer ---
  [[nodiscard]] bool answer_pays() noexcept {
    const std::uint32_t misses = answer_misses_.load(std::memory_order_relaxed);
    if (misses >= kAnswerMisses) {
      answer_misses_.store(misses + 1, std::memory_order_relaxed);
      if (misses % kSpinRetryEvery != 0) return false;
    }
    return may_spin();
  }
  void answer_found(bool found) noexcept {
    answer_misses_.store(found ? 0 : answer_misses_.load(std::memory_order_relaxed) + 1,
                         std::memory_order_relaxed);
  }
  void answered(std::uint64_t now) noexcept { answered_ns_.store(now, std::memory_order_relaxed); }
  // The next question came too late for whoever spun, but not by much: its worker had fallen asleep, as it
  // does before each answer if nobody spins.
  void question_came() noexcept {
    if (answer_misses_.load(std::memory_order_relaxed) == 0) return;
    const std::uint64_t answered = answered_ns_.load(std::memory_order_relaxed);
    if (os::monotonic_ns() - answered <= spin_ns_ * kLongCall)
      answer_misses_.store(0, std::memory_order_relaxed);
  }

  // --- polling ---
  [[nodiscard]] bool polling_pays() noexcept {
    const std::uint32_t misses = poll_misses_.load(std::memory_order_relaxed);
    if (misses < kPollMisses) return true;
    poll_misses_.store(misses + 1, std::memory_order_relaxed);
    return misses % kPollRetryEvery == 0;
  }
  void polling_found(bool found) noexcept {
    poll_misses_.store(found ? 0 : poll_misses_.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
  }
  // Whether a caller looks once more that has found nothing in so many turns, since it submitted so long ago.
  [[nodiscard]] bool another_turn_pays(std::uint32_t turns, std::uint64_t waited_ns) const noexcept {
    return turns < kTurnsAtLeast || waited_ns < spin_ns_ * kPollSpins;
  }

  // How often somebody spun in vain, ever.
  void count_missed_spin() noexcept { missed_spins_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t missed_spins() const noexcept {
    return missed_spins_.load(std::memory_order_relaxed);
  }

  // Whether a spinner may keep its core.
  channel::SpinGuard guard;

 private:
  [[nodiscard]] bool may_spin() noexcept { return spin_ns_ != 0 && guard.spin_allowed(); }

  // After some calls in a row that took too long to be worth a spin, a caller spins only now and then. (A
  // miss alone says nothing: a worker that had to be woken misses the first spin, and if callers then stopped
  // spinning it would fall asleep before each call.)
  static constexpr std::uint32_t kCallMisses = 8;
  static constexpr std::uint32_t kSpinRetryEvery = 16;
  // A call that took so many times the spin was not missed for a wake-up's sake: it is long.
  static constexpr std::uint64_t kLongCall = 10;
  // After so many answers in a row that Python made nothing of at once, only one in some is spun after.
  static constexpr std::uint32_t kAnswerMisses = 4;
  // After so many polls in a row that found nothing only one in some polls.
  static constexpr std::uint32_t kPollMisses = 16;
  static constexpr std::uint32_t kPollRetryEvery = 64;
  // Turns without a reply after which a caller stops polling, and the time in spins.
  static constexpr std::uint32_t kTurnsAtLeast = 4;
  static constexpr std::uint64_t kPollSpins = 2;
  // For so long after a crowd of callers they do not spin.
  static constexpr std::uint64_t kCrowdNs = 1'000'000;

  const std::uint64_t spin_ns_;
  std::atomic<std::uint32_t> call_misses_{0};
  std::atomic<std::uint32_t> answer_misses_{0};
  std::atomic<std::uint64_t> answered_ns_{0};
  std::atomic<std::uint32_t> poll_misses_{0};
  std::atomic<std::uint64_t> missed_spins_{0};
  std::atomic<std::uint64_t> crowded_until_ns_{0};
};

}  // namespace typhon::beam
