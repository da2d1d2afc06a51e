// Doorbell: how one side sleeps until the other has published something, without a system call when it is
// awake.
//
// The protocol, for a word that one sleeper owns:
//   publisher: publish; full fence; if the word says asleep, change it to awake and wake.
//   sleeper:   store asleep; full fence; look again for work; wait while the word says asleep.
// Whichever fence comes second sees the other's store, so no wake-up is lost.
// The words lie in shared memory: futexes are the shared kind. Any thread may call these.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "channel/layout.h"

namespace typhon::channel {

// If `word` holds `from`, makes it kAwake and wakes its sleeper. True when this call woke it.
bool wake_from(std::atomic<std::uint32_t>& word, std::uint32_t from) noexcept;

// Wakes the reader of replies whether it waits with a limit or without. In this order: it goes from the timed
// wait to the plain one by itself, never straight back.
inline void wake_reader(std::atomic<std::uint32_t>& word) noexcept {
  if (!wake_from(word, kTimed)) wake_from(word, kAsleep);
}

// For the side that takes requests, after it has taken one: once half of the ring is free, tells the reader
// of replies if callers wait for room.
inline void tell_of_room(Header& header, std::size_t ring_size) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& wanted = header.request_room.value;
  if (wanted.load(std::memory_order_relaxed) == 0) return;
  const std::uint64_t used = header.request_tail.value.load(std::memory_order_relaxed) -
                             header.request_head.value.load(std::memory_order_relaxed);
  if (used > ring_size / 2 || wanted.exchange(0, std::memory_order_acq_rel) == 0) return;
  wake_reader(header.reader_word.value);
}

// A spinner's good manners. It yields its core, as the one it waits for may need this very core; and it
// notices when somebody else took it: on a machine that is busy with other things a spinner loses its core
// for long, while a sleeper that is woken is scheduled at once. Then spin_allowed() is false for the next few
// turns, and for twice as many when the first attempt after them ends the same way. A core that was away for
// as long as a small call takes was well lent if what is waited for is there now: the peer ran on it.
// Any thread: the counts are hints, and a lost update of one does no harm.
class SpinGuard {
 public:
  [[nodiscard]] bool spin_allowed() noexcept {
    const std::uint32_t rest = rest_.load(std::memory_order_relaxed);
    if (rest == 0) return true;
    rest_.store(rest - 1, std::memory_order_relaxed);
    return false;
  }
  // Yields; false when the core was away for so long that spinning is pointless now. `came()` tells whether
  // what is waited for has come.
  template <class Came>
  bool yield(Came came) noexcept {
    return was_worth_it(yield_for_ns(), came);
  }
  // What yield() makes of a core that was away for so long (nanoseconds).
  template <class Came>
  bool was_worth_it(std::uint64_t away, Came came) noexcept {
    if (away < kAwayNs || (away < kLostNs && came())) {
      next_rest_.store(kShortRest, std::memory_order_relaxed);
      return true;
    }
    lost();
    return false;
  }

 private:
  static std::uint64_t yield_for_ns() noexcept;
  void lost() noexcept;

  static constexpr std::uint64_t kAwayNs = 30'000;
  // A slice of the kernel's scheduler is longer.
  static constexpr std::uint64_t kLostNs = 500'000;
  static constexpr std::uint32_t kShortRest = 4;
  static constexpr std::uint32_t kLongRest = 256;
  std::atomic<std::uint32_t> rest_{0};
  std::atomic<std::uint32_t> next_rest_{kShortRest};
};

}  // namespace typhon::channel
