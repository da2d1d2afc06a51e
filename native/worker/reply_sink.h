// ReplySink: where a frame's body is written: behind the room for its header while it is small, into a
// segment of the reply arena when it grows.
//
// One thread. A segment that was not handed over by finish() is given back.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "channel/layout.h"
#include "channel/loan.h"
#include "etf/sink.h"
#include "worker/outlet.h"

namespace typhon::worker {

class ReplySink final : public etf::Sink {
 public:
  static constexpr std::size_t kMaxInline = std::size_t{16} * 1024;
  // What a frame with a body of that size takes.
  static constexpr std::size_t kReserve = sizeof(channel::FrameHeader) + kMaxInline + channel::kLoansSize;

  // `frame`: kReserve bytes.
  ReplySink(std::uint8_t* frame, Outlet& arena) noexcept : frame_(frame), arena_(arena) {
    data = frame_ + sizeof(channel::FrameHeader);
    capacity = kMaxInline;
  }
  ReplySink(const ReplySink&) = delete;
  ReplySink& operator=(const ReplySink&) = delete;
  ~ReplySink() override {
    if (segment_) arena_.discard(*segment_);
  }

  bool grow(std::size_t at_least) noexcept override {
    if (at_least > arena_.max_result()) return refuse_size();
    const std::size_t wanted = std::max({at_least, capacity * 2, kFirstSegment});
    if (!segment_) {
      segment_ = arena_.allocate(wanted, at_least);
      if (!segment_) return refuse_memory(at_least);
      std::memcpy(arena_.data(*segment_), data, size);
    } else if (!arena_.grow(*segment_, size, wanted) && !arena_.grow(*segment_, size, at_least)) {
      return refuse_memory(at_least - capacity);
    }
    data = arena_.data(*segment_);
    capacity = segment_->capacity;
    return true;
  }

  [[nodiscard]] const std::uint8_t* frame() const noexcept { return frame_; }
  [[nodiscard]] bool in_segment() const noexcept { return segment_.has_value(); }
  // The arena would be more than the worker may hold in memory: the error is the one that this gives.
  [[nodiscard]] bool lacks_memory() const noexcept { return lacks_memory_; }
  [[nodiscard]] const char* refusal() const noexcept override {
    return refusal_[0] != '\0' ? refusal_.data() : nullptr;
  }

  // Completes the frame and gives its size; `header` without size and the body's flags; `loans`: the first
  // one, or nullptr. The sink is done.
  std::size_t finish(channel::FrameHeader header, channel::Loan* loans) noexcept {
    std::size_t body = size;
    if (segment_) {
      arena_.shrink(*segment_, size);
      const channel::SegmentRef ref{segment_->slot, segment_->offset, size};
      std::memcpy(frame_ + sizeof header, &ref, sizeof ref);
      body = sizeof ref;
      header.flags |= channel::kInSegment;
      if ((header.flags & channel::kHasObjects) == 0 && !has_large_binary) header.flags |= channel::kPlain;
      segment_.reset();
    }
    if (loans) {
      std::memcpy(frame_ + sizeof header + body, static_cast<const void*>(&loans), channel::kLoansSize);
      body += channel::kLoansSize;
      header.flags |= channel::kLends;
      header.lent = weight_of(*loans);
    }
    header.size = static_cast<std::uint32_t>(sizeof header + body);
    std::memcpy(frame_, &header, sizeof header);
    return header.size;
  }

 private:
  static constexpr std::size_t kFirstSegment = std::size_t{64} * 1024;

  static std::uint16_t weight_of(const channel::Loan& first) noexcept {
    std::uint64_t bytes = 0;
    for (const channel::Loan* loan = &first; loan; loan = loan->next) bytes += loan->size;
    return static_cast<std::uint16_t>(
        std::min<std::uint64_t>(bytes / channel::kStatementBytes, channel::kMostStatements));
  }

  bool refuse_size() noexcept {
    std::snprintf(
        refusal_.data(), refusal_.size(),
        "it takes more than %llu bytes, which is max_result: of the pool. Raise that option, or send "
        "it in parts",
        static_cast<unsigned long long>(arena_.max_result()));
    return false;
  }
  bool refuse_memory(std::size_t bytes) noexcept {
    lacks_memory_ = !arena_.has_memory(bytes);
    return false;
  }

  std::uint8_t* frame_;
  Outlet& arena_;
  std::optional<channel::Segment> segment_;
  bool lacks_memory_ = false;
  std::array<char, 160> refusal_{};
};

}  // namespace typhon::worker
