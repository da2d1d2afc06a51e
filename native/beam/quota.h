// Quota: what a worker has asked for that has not been dealt with. It lies in the mailbox of the worker's
// owner until then, so it is bounded: an honest worker waits before it sends more (channel::kMostStatements,
// kMostQuestions), and one that does not is at fault. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "channel/layout.h"

namespace typhon::beam {

class Quota {
 public:
  enum class Of : std::uint8_t {
    kStatement,  // wants no answer: what is said or logged for the owner, and messages to processes
    kQuestion,   // in nobody's name: a process of its own answers it
    kRefusal,    // in the name of a call that was given up: it is only told so
  };
  static constexpr std::size_t kKinds = 3;

  // False: it is one too many. Only statements weigh more than one (channel::statement_weight()).
  [[nodiscard]] bool add(Of of, std::uint32_t weight = 1) noexcept {
    const std::uint64_t owed = owed_[index(of)].fetch_add(weight, std::memory_order_relaxed);
    return owed + weight <= kMost[index(of)];
  }
  void dealt_with(Of of, std::uint32_t count) noexcept {
    owed_[index(of)].fetch_sub(count, std::memory_order_relaxed);
    dealt_with_.fetch_add(count, std::memory_order_relaxed);
  }
  // Of all kinds, ever.
  [[nodiscard]] std::uint64_t dealt_with() const noexcept {
    return dealt_with_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t index(Of of) noexcept { return static_cast<std::size_t>(of); }
  // A worker has its answer, and may ask the next question, before whoever answered is counted out. How many
  // calls are given up at once it does not know; what is kept of a question in such a name is its tag.
  static constexpr std::array<std::uint32_t, kKinds> kMost{channel::kMostStatements,
                                                           2 * channel::kMostQuestions, 65'536};

  std::array<std::atomic<std::uint32_t>, kKinds> owed_{};
  std::atomic<std::uint64_t> dealt_with_{0};
};

}  // namespace typhon::beam
