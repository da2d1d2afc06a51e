// Claims: whether the worker has begun a call, or the BEAM has taken it back. One word in shared memory for
// each index of an id, which both sides change by compare-exchange: whoever comes first has the call.
//
// A word holds the generation of the last id of its index that was decided, and how. So nobody has to reset
// it, and while calls are neither given up nor moved the BEAM does not touch it: the worker finds it in its
// own cache. An index is used again as soon as its last id is decided, so a frame that was withdrawn may be
// looked at when the word speaks of a later generation already.
//
// Threads: any. What the other process writes can only make it wrong about its own calls.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/layout.h"

namespace typhon::channel {

enum class Claim : std::uint8_t {
  kOpen = 0,
  kTaken = 1,      // the worker's: it runs it, and answers
  kWithdrawn = 2,  // the BEAM's: the worker passes over its frame, and nobody waits for an answer
  kImports = 3,    // the worker's, and its thread imports a module: it cannot be interrupted now
};

class Claims {
 public:
  explicit Claims(std::atomic<std::uint32_t>* words) noexcept : words_(words) {}

  // The worker, before it begins a call. False: it is not to.
  [[nodiscard]] bool take(std::uint64_t id) const noexcept {
    return decide(id, Claim::kTaken) == Claim::kTaken;
  }
  // The BEAM, once for an id. False: the worker has begun it. So it has if the word says that the call is
  // withdrawn already: only the worker can have written that, and it owes the answer.
  [[nodiscard]] bool withdraw(std::uint64_t id) const noexcept {
    bool first = false;
    return in_range(id) && decide(id, Claim::kWithdrawn, &first) == Claim::kWithdrawn && first;
  }
  // The worker, of a call that it has taken: whether its thread imports.
  void set_imports(std::uint64_t id, bool imports) const noexcept {
    if (!in_range(id)) return;
    std::uint32_t seen = word_for(id, imports ? Claim::kTaken : Claim::kImports);
    words_[index_of(id)].compare_exchange_strong(
        seen, word_for(id, imports ? Claim::kImports : Claim::kTaken), std::memory_order_acq_rel);
  }
  // Whether the worker has it.
  [[nodiscard]] bool is_taken(std::uint64_t id) const noexcept {
    const Claim now = state(id);
    return now == Claim::kTaken || now == Claim::kImports;
  }
  [[nodiscard]] Claim state(std::uint64_t id) const noexcept {
    if (!in_range(id)) return Claim::kTaken;
    return state_in(words_[index_of(id)].load(std::memory_order_acquire), id);
  }

 private:
  static constexpr unsigned kStateBits = 2;
  static constexpr std::uint32_t kStateMask = (1U << kStateBits) - 1;
  static constexpr std::uint32_t kGenerationMask = 0xff'ffff;

  static std::uint32_t index_of(std::uint64_t id) noexcept { return static_cast<std::uint32_t>(id); }
  static std::uint32_t generation_of(std::uint64_t id) noexcept {
    return static_cast<std::uint32_t>(id >> 32) & kGenerationMask;
  }
  static bool in_range(std::uint64_t id) noexcept { return index_of(id) < kClaims; }
  static std::uint32_t word_for(std::uint64_t id, Claim state) noexcept {
    return (generation_of(id) << kStateBits) | static_cast<std::uint32_t>(state);
  }
  static Claim state_in(std::uint32_t word, std::uint64_t id) noexcept {
    const std::uint32_t ahead = ((word >> kStateBits) - generation_of(id)) & kGenerationMask;
    if (ahead == 0) return static_cast<Claim>(word & kStateMask);
    return ahead <= kGenerationMask / 2 ? Claim::kWithdrawn : Claim::kOpen;
  }
  // What it is then. An id that the BEAM cannot have given is nobody else's.
  Claim decide(std::uint64_t id, Claim wanted, bool* first = nullptr) const noexcept {
    if (!in_range(id)) return wanted;
    std::atomic<std::uint32_t>& word = words_[index_of(id)];
    std::uint32_t seen = word.load(std::memory_order_acquire);
    for (;;) {
      if (const Claim state = state_in(seen, id); state != Claim::kOpen) return state;
      if (word.compare_exchange_weak(seen, word_for(id, wanted), std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
        if (first) *first = true;
        return wanted;
      }
    }
  }

  std::atomic<std::uint32_t>* words_;
};

}  // namespace typhon::channel
