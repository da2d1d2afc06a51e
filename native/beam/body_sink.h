// BodySink: where a request's body is written: the caller's stack while it is small, a segment when it grows.
//
// `limit` bounds what a normal scheduler may copy: past it the call is moved to a dirty one (over_limit).
// One thread. A segment that was not handed over by take() is given back.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>

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

  void start(WorkerChannel* channel) noexcept {
    drop();
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
  }

  std::uint8_t* stack_;
  std::size_t stack_size_;
  std::size_t limit_;
  WorkerChannel* channel_ = nullptr;
  std::optional<channel::Segment> segment_;
  bool over_limit_ = false;
  bool no_room_ = false;
};

}  // namespace typhon::beam
