// RequestSide: what the BEAM sends to one worker. The ring, the arena of bodies that are too large for it,
// and how much of that is in use. It knows neither who sends nor who waits.
//
// Not thread-safe: one mutex of its owner guards it, together with what has to change at the same moment as a
// request is published. The worker reads the ring and frees segments at any time; what it writes is checked
// by what lies below (channel/ring.h, channel/arena.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "channel/arena.h"
#include "channel/layout.h"
#include "channel/loan.h"
#include "channel/region.h"
#include "channel/ring.h"

namespace typhon::channel {

// One frame, ready to go: its body is either `body`, which is copied into the ring, or lies in `segment`.
struct Outgoing {
  Kind kind = Kind::kCall;
  bool timings = false;
  bool captures = false;       // its output goes to the caller
  bool as_object = false;      // the result is to stay in the worker
  bool of_object = false;      // an object stands in the place of the module
  bool failed = false;         // kAnswer: the body says what went wrong
  std::uint64_t id = 0;        // of a call; kAnswer: the tag of the ask
  std::uint64_t parent = 0;    // the worker's request that this one is made for, 0 for none
  std::uint64_t now = 0;       // CLOCK_MONOTONIC ns
  std::uint64_t deadline = 0;  // the same clock, 0 for none
  std::span<const std::uint8_t> body;
  std::optional<Segment> segment;
  std::size_t segment_length = 0;
  Loan* loans = nullptr;  // of the body; the sender's still while it is not in the ring
  std::size_t lent_bytes = 0;

  // Bytes of memory that it keeps from other large requests.
  [[nodiscard]] std::size_t held() const noexcept { return lent_bytes + (segment ? segment->capacity : 0); }
};

class RequestSide {
 public:
  // Bytes of segments of requests in flight beyond which further large requests wait.
  static constexpr std::size_t kBudget = std::size_t{1} << 30;

  explicit RequestSide(const Region& region) noexcept;
  RequestSide(const RequestSide&) = delete;
  RequestSide& operator=(const RequestSide&) = delete;

  // False: there is no room, or the worker has overwritten the ring's counters (broken()).
  bool push(const Outgoing& frame) noexcept;
  // The same, and asks the worker to say when there is room.
  bool push_or_ask(const Outgoing& frame) noexcept;
  [[nodiscard]] bool broken() const noexcept { return ring_.broken(); }
  [[nodiscard]] std::size_t ring_size() const noexcept { return ring_.size(); }

  // --- objects of Python that nobody has any more ---
  void add_release(std::uint64_t id) noexcept { releases_.push_back(id); }
  // As many as one frame holds; true when one was sent.
  bool push_releases() noexcept;
  // All of them, or asks for room: then `room_wanted`.
  bool push_all_releases(bool& room_wanted) noexcept;

  // --- room ---
  // Half of the ring is free, and segments are within the budget; else the worker was asked to say when that
  // may be so.
  bool has_room_or_ask() noexcept;
  // No request in flight holds a segment; the worker was asked to say when it has taken what holds one.
  bool asks_in_vain() noexcept;

  // --- segments, for requests that are being written ---
  // Nothing when the budget or the arena is used up.
  std::optional<Segment> allocate(std::size_t bytes) noexcept;
  bool grow(Segment& segment, std::size_t used, std::size_t bytes) noexcept {
    return arena_.grow(segment, used, bytes);
  }
  void shrink(Segment& segment, std::size_t used) noexcept { arena_.shrink(segment, used); }
  void discard(const Segment& segment) noexcept { arena_.discard(segment); }
  // Whether a request that nobody waits for may lend so much: it counts like a segment until it is taken.
  bool may_lend(std::size_t bytes) noexcept;

  // --- what is in use ---
  // By a call, until give_back(); by anything else, until the worker has taken the frame that was pushed
  // last.
  void hold(std::size_t bytes) noexcept { held_ += bytes; }
  void hold_until_taken(std::size_t bytes) noexcept;
  void give_back(std::size_t bytes) noexcept { held_ -= bytes; }
  // Frames sent, ever.
  [[nodiscard]] std::uint64_t frames() const noexcept { return frames_; }
  [[nodiscard]] std::size_t bytes_in_use() const noexcept { return arena_.bytes_in_use(); }

  // Nothing when there are no idle pages; else a count that grows with each segment sent.
  std::optional<std::uint64_t> idle_pages_since() noexcept;
  // Gives idle pages back, some at a time; true when there are more.
  bool trim(std::size_t bytes) noexcept { return arena_.trim(bytes); }

 private:
  struct Held {
    std::uint64_t end;  // where its frame ends: consumed so far means wholly taken
    std::size_t bytes;
  };
  void ask_for_room() noexcept;
  void settle() noexcept;
  [[nodiscard]] bool half_full() noexcept { return ring_.used() > ring_.size() / 2; }

  Header& header_;
  RingProducer ring_;
  ArenaOwner arena_;
  std::vector<std::uint64_t> releases_;
  std::size_t held_ = 0;  // of calls in flight, and of all else that has not been taken
  std::deque<Held> untaken_;
  std::uint64_t segments_sent_ = 0;
  std::uint64_t frames_ = 0;
};

}  // namespace typhon::channel
