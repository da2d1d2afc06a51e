// ReaderRole: who in the BEAM may consume the reply ring of one channel.
//
// Overview. The shared word (`reader_word`) says who sleeps, and by that who is to read next: the reader
// thread, or a caller who looks for its own answer. It is a hint. The worker can write it, by a bug or on
// purpose, at any moment and with any value. Whether somebody *may* read is decided by `held_`, which lies in
// the VM's own memory: two consumers are impossible, whatever the word says.
//
// With a worker that keeps to the protocol `held_` is free whenever the word invites somebody to take the
// role, so that it costs one exchange and never refuses. With any other one a holder may be refused (then
// somebody else reads), the reader thread may be woken for nothing, and a word that says "a caller reads"
// while none does is found out by the reader thread (abandoned()). What is late because of that is late for
// the calls of that worker alone.
//
// The holder of the role goes through try_take() … leave() (a caller) or reader_takes() … rest() (the reader
// thread). After leave() and rest() it must fence and look at the ring once more: docs/protocol.md, "The
// reader's word".
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/doorbell.h"
#include "channel/layout.h"

namespace typhon::channel {

class ReaderRole {
 public:
  explicit ReaderRole(std::atomic<std::uint32_t>& word) noexcept : word_(word) {}
  ReaderRole(const ReaderRole&) = delete;
  ReaderRole& operator=(const ReaderRole&) = delete;

  // A caller that wants to read. `found` is what leave() has to put back.
  [[nodiscard]] bool try_take(std::uint32_t& found) noexcept {
    found = word_.load(std::memory_order_relaxed);
    if (found != kAsleep && found != kTimed && found != kPolled) return false;
    if (!word_.compare_exchange_strong(found, kSpin, std::memory_order_acq_rel)) return false;
    return hold();
  }
  // Before the word: whoever the word lets in finds the role free.
  void leave(std::uint32_t found) noexcept {
    held_.store(false, std::memory_order_release);
    word_.store(found, std::memory_order_release);
  }

  // The reader thread, when the word says that it is to read (or when it has ended: abandoned()).
  [[nodiscard]] bool reader_takes() noexcept {
    if (!hold()) return false;
    // Usually it says so already. Callers are kept from trying.
    word_.store(kAwake, std::memory_order_relaxed);
    return true;
  }
  void rest(std::uint32_t state) noexcept { leave(state); }

  // The word says that somebody reads, and nobody does. True for a moment while somebody takes or leaves the
  // role; for longer only if the worker wrote it.
  [[nodiscard]] bool abandoned(std::uint32_t state) const noexcept {
    return state != kAsleep && state != kTimed && state != kPolled && !held_.load(std::memory_order_acquire);
  }

 private:
  [[nodiscard]] bool hold() noexcept { return !held_.exchange(true, std::memory_order_acquire); }

  std::atomic<std::uint32_t>& word_;
  std::atomic<bool> held_{false};
};

}  // namespace typhon::channel
