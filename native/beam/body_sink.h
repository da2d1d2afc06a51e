// BodySink: where a request's body is written: the caller's stack while it is small, a segment when it grows.
//
// `limit` bounds what a normal scheduler may copy: past it the call is moved to a dirty one (over_limit).
// It also gathers the binaries that the request lends.
//
// One thread. A segment or loans that were not handed over are given back.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>

#include "beam/binary_loans.h"
#include "beam/worker_channel.h"
#include "etf/sink.h"

namespace typhon::beam {

class BodySink final : public etf::Sink {
 public:
  BodySink(std::uint8_t* stack, std::size_t stack_size, std::size_t limit) noexcept
      : stack_(stack), stack_size_(stack_size), limit_(limit) {}
  BodySink(const BodySink&) = delete;
  BodySink& operator=(const BodySink&) = delete;
  ~BodySink() override { drop(); }

  // `bounded`: nobody waits for the request, so what lies in the ring must not hold any amount of memory.
  void start(WorkerChannel* channel, bool bounded) noexcept {
    drop();
    bounded_ = bounded;
    channel_ = channel;
    data = stack_;
    capacity = stack_size_;
    size = 0;
    over_limit_ = no_room_ = false;
  }

  bool grow(std::size_t at_least) noexcept override {
    if (at_least > limit_) {
      over_limit_ = true;
      return false;
    }
    const std::size_t wanted = std::max({at_least, capacity * 2, kFirstSegment});
    if (!segment_) {
      segment_ = channel_->allocate_segment(wanted);
      if (!segment_ && wanted > at_least) segment_ = channel_->allocate_segment(at_least);
      if (segment_) std::memcpy(channel_->segment_data(*segment_), data, size);
    } else if (!channel_->grow_segment(*segment_, size, wanted) &&
               !channel_->grow_segment(*segment_, size, at_least)) {
      no_room_ = true;
      return false;
    }
    if (!segment_) {
      no_room_ = true;
      return false;
    }
    data = channel_->segment_data(*segment_);
    capacity = segment_->capacity;
    return true;
  }

  [[nodiscard]] bool lends(std::size_t bytes) const noexcept {
    return bytes >= channel::kLendAtLeast && channel_->lends() && !loans_.full();
  }
  // The index of the loan; nothing when that much is not to be lent now (no_room()), or there is no memory.
  std::optional<std::uint32_t> lend(ERL_NIF_TERM binary, std::size_t bytes) noexcept {
    if (bounded_ && !channel_->may_lend(lent_bytes_ + bytes)) {
      no_room_ = true;
      return std::nullopt;
    }
    BinaryLoan* loan = channel_->state().binary_loans->lend(binary, *channel_);
    if (!loan) return std::nullopt;
    lent_bytes_ += bytes;
    return loans_.add(*loan);
  }
  [[nodiscard]] channel::Loan* loans() const noexcept { return loans_.first(); }
  // Of a request that nobody waits for; others are bounded by those who wait.
  [[nodiscard]] std::size_t bounded_bytes() const noexcept { return bounded_ ? lent_bytes_ : 0; }
  // The request was accepted: the loans are the worker's to give back.
  void sent() noexcept { static_cast<void>(loans_.take()); }

  [[nodiscard]] bool over_limit() const noexcept { return over_limit_; }
  [[nodiscard]] bool no_room() const noexcept { return no_room_; }

  // Hands the segment (if there is one) over to a request.
  std::optional<channel::Segment> take() noexcept {
    if (segment_) channel_->shrink_segment(*segment_, size);
    return std::exchange(segment_, std::nullopt);
  }

 private:
  static constexpr std::size_t kFirstSegment = std::size_t{64} * 1024;

  void drop() noexcept {
    if (segment_) channel_->discard_segment(*segment_);
    segment_.reset();
    if (loans_.first()) channel_->state().binary_loans->discard(loans_.take());
    lent_bytes_ = 0;
  }

  std::uint8_t* stack_;
  std::size_t stack_size_;
  std::size_t limit_;
  WorkerChannel* channel_ = nullptr;
  std::optional<channel::Segment> segment_;
  channel::LoanChain loans_;
  std::size_t lent_bytes_ = 0;
  bool bounded_ = false;
  bool over_limit_ = false;
  bool no_room_ = false;
};

}  // namespace typhon::beam
