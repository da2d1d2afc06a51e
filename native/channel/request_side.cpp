#include "channel/request_side.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "os/clock.h"

namespace typhon::channel {

namespace {

constexpr std::size_t kReleasesPerFrame = 512;

}  // namespace

RequestSide::RequestSide(const Region& region) noexcept
    : header_(region.header()),
      ring_(region.request_ring(), region.ring_size(), header_.request_tail.value,
            header_.request_head.value),
      arena_(region.request_arena(), region.arena_size(), header_.request_slots) {}

// --- frames ---

bool RequestSide::push(const Outgoing& frame) noexcept {
  const std::size_t body_size = frame.segment ? sizeof(SegmentRef) : frame.body.size();
  const std::size_t size = sizeof(FrameHeader) + body_size + (frame.loans ? kLoansSize : 0);
  std::uint8_t* at = ring_.reserve(align8(size));
  if (!at) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(size);
  header.kind = frame.kind;
  header.flags = static_cast<std::uint8_t>(
      (frame.segment ? kInSegment : 0) | (frame.timings ? kTimings : 0) | (frame.failed ? kFailed : 0) |
      (frame.loans ? kLends : 0) | (frame.of_object ? kOfObject : 0) | (frame.as_object ? kAsObject : 0));
  header.id = frame.id;
  header.times[0] = frame.timings ? os::monotonic_ns() : frame.now;
  header.times[1] = frame.deadline;
  header.times[2] = frame.parent;
  header.times[3] = frame.captures ? 1 : 0;
  std::memcpy(at, &header, sizeof header);
  if (frame.segment) {
    const SegmentRef ref{frame.segment->slot, frame.segment->offset, frame.segment_length};
    std::memcpy(at + sizeof header, &ref, sizeof ref);
  } else if (body_size > 0) {
    std::memcpy(at + sizeof header, frame.body.data(), body_size);
  }
  if (frame.loans)
    std::memcpy(at + sizeof header + body_size, static_cast<const void*>(&frame.loans), kLoansSize);
  ring_.commit(size);
  ++frames_;
  if (frame.segment) ++segments_sent_;
  return true;
}

bool RequestSide::push_or_ask(const Outgoing& frame) noexcept {
  if (push(frame)) return true;
  if (broken()) return false;
  // The worker may have made room before it could see the question.
  ask_for_room();
  return push(frame);
}

// --- releases ---

bool RequestSide::push_releases() noexcept {
  if (releases_.empty()) return false;
  const std::size_t count = std::min(releases_.size(), kReleasesPerFrame);
  const std::size_t size = sizeof(FrameHeader) + count * sizeof(std::uint64_t);
  std::uint8_t* at = ring_.reserve(align8(size));
  if (!at) return false;
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(size);
  header.kind = Kind::kRelease;
  std::memcpy(at, &header, sizeof header);
  const auto first = releases_.end() - static_cast<std::ptrdiff_t>(count);
  std::memcpy(at + sizeof header, &*first, count * sizeof(std::uint64_t));
  ring_.commit(size);
  ++frames_;
  releases_.erase(first, releases_.end());
  return true;
}

bool RequestSide::push_all_releases(bool& room_wanted) noexcept {
  bool pushed = false;
  while (push_releases()) pushed = true;
  if (releases_.empty()) return pushed;
  ask_for_room();
  while (push_releases()) pushed = true;
  room_wanted |= !releases_.empty();
  return pushed;
}

// --- room ---

void RequestSide::ask_for_room() noexcept {
  header_.request_room.value.store(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

bool RequestSide::has_room_or_ask() noexcept {
  const auto has_room = [this] {
    settle();
    return held_ < kBudget && !half_full();
  };
  if (has_room()) return true;
  // A reply that frees some brings its reader here; what is only taken must be asked for.
  ask_for_room();
  return has_room();
}

bool RequestSide::asks_in_vain() noexcept {
  ask_for_room();
  settle();
  return held_ == 0;
}

void RequestSide::hold_until_taken(std::size_t bytes) noexcept {
  untaken_.push_back({ring_.published(), bytes});
  held_ += bytes;
}

void RequestSide::settle() noexcept {
  const std::uint64_t taken = header_.request_head.value.load(std::memory_order_acquire);
  while (!untaken_.empty() && untaken_.front().end <= taken) {
    held_ -= untaken_.front().bytes;
    untaken_.pop_front();
  }
}

// --- segments ---

std::optional<Segment> RequestSide::allocate(std::size_t bytes) noexcept {
  arena_.reap();
  if (!may_lend(bytes)) return std::nullopt;
  return arena_.allocate(bytes);
}

bool RequestSide::may_lend(std::size_t bytes) noexcept {
  settle();
  return held_ == 0 || held_ + bytes <= kBudget;
}

std::optional<std::uint64_t> RequestSide::idle_pages_since() noexcept {
  arena_.reap();
  if (!arena_.has_idle_pages()) return std::nullopt;
  return segments_sent_;
}

}  // namespace typhon::channel
