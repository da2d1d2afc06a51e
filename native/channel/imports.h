// Imports: which modules the threads of a worker import, for the BEAM to know when a call's time is over.
// That a call does so says its claim (Claim::kImports); here stands what it imports, a mark for each thread.
// There are few: who finds none free has a claim alone.
//
// A mark is written in this order: its stamp is 0, its fields, its stamp. Whoever reads it copies it between
// two looks at the stamp.
//
// Threads: begin() and end() under a lock of the worker's; names() and is_any() from any. What the other
// process writes is a name at worst that is no name.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

#include "channel/layout.h"

namespace typhon::channel {

class Imports {
 public:
  static constexpr int kNone = -1;

  explicit Imports(Header& header) noexcept : marks_(header.imports) {}

  // Which mark it is; kNone when all are in use.
  int begin(std::uint64_t call, std::string_view name) noexcept {
    for (std::size_t i = 0; i < kImportMarks; ++i) {
      ImportMark& mark = marks_[i];
      if (mark.stamp.load(std::memory_order_relaxed) != 0) continue;
      // The stamp's 0 was seen before anything that is written now.
      std::atomic_thread_fence(std::memory_order_release);
      mark.call.store(call, std::memory_order_relaxed);
      char text[kImportName] = {};
      // One without a name has no data either.
      if (!name.empty()) std::memcpy(text, name.data(), std::min(name.size(), kImportName));
      for (std::size_t word = 0; word < std::size(mark.name); ++word) {
        std::uint64_t bytes = 0;
        std::memcpy(&bytes, text + word * sizeof bytes, sizeof bytes);
        mark.name[word].store(bytes, std::memory_order_relaxed);
      }
      mark.stamp.store(++last_, std::memory_order_release);
      return static_cast<int>(i);
    }
    return kNone;
  }
  void end(int mark) noexcept {
    if (mark != kNone) marks_[mark].stamp.store(0, std::memory_order_release);
  }

  // What the thread of this call imports, as far as that is known: a call that waits for one on top of it,
  // and one that waits in the event loop, have no mark of their own. Empty: not known.
  [[nodiscard]] std::string name_for(std::uint64_t call) const {
    std::string name;
    std::size_t marks = 0;
    bool same = true;
    for (std::size_t i = 0; i < kImportMarks; ++i) {
      std::uint64_t of = 0;
      std::string text;
      if (!read(marks_[i], of, text)) continue;
      if (of == call && call != 0) return text;
      // Several may wait for one module.
      if (marks++ != 0 && text != name) same = false;
      name = std::move(text);
    }
    // Where all are in use there may be more than there are marks for.
    return same && marks < kImportMarks ? name : std::string();
  }
  [[nodiscard]] bool is_any() const noexcept {
    for (std::size_t i = 0; i < kImportMarks; ++i) {
      if (marks_[i].stamp.load(std::memory_order_acquire) != 0) return true;
    }
    return false;
  }

 private:
  static bool read(const ImportMark& mark, std::uint64_t& call, std::string& text) {
    const std::uint64_t stamp = mark.stamp.load(std::memory_order_acquire);
    if (stamp == 0) return false;
    call = mark.call.load(std::memory_order_relaxed);
    char bytes[kImportName];
    for (std::size_t word = 0; word < std::size(mark.name); ++word) {
      const std::uint64_t some = mark.name[word].load(std::memory_order_relaxed);
      std::memcpy(bytes + word * sizeof some, &some, sizeof some);
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (mark.stamp.load(std::memory_order_relaxed) != stamp) return false;
    text.assign(bytes, ::strnlen(bytes, sizeof bytes));
    return true;
  }

  ImportMark* marks_;
  std::uint64_t last_ = 0;
};

}  // namespace typhon::channel
