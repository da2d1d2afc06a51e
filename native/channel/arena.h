// Arena: segments for bodies too large for a ring.
//
// Each direction has one arena, allocated by its sender alone (ArenaOwner) and read by its receiver
// (ArenaPeer), which marks a segment released in the shared slot table when it has let go of it. The owner
// reuses a segment only then, so memory that the other side still looks at is never handed out again; pages
// are reused warm, lowest address first, and given back to the system by trim(). Neither class locks: the
// caller does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "channel/layout.h"
#include "os/memory.h"

namespace typhon::channel {

struct Segment {
  std::uint32_t slot = 0;
  std::uint64_t offset = 0;
  std::uint64_t capacity = 0;
};

class ArenaOwner {
 public:
  // Segments are whole pages of `page` bytes, so that each can be given back to the system.
  ArenaOwner(std::uint8_t* memory, std::size_t size, std::atomic<std::uint32_t>* slots,
             std::size_t page = os::page_size()) noexcept;

  // A segment of at least `bytes`, or nothing when no slot or no stretch is free. May be called with any
  // size.
  [[nodiscard]] std::optional<Segment> allocate(std::size_t bytes) noexcept;
  // Makes room for `bytes` in all, in place when what follows is free, else by moving (`used` bytes are
  // copied).
  [[nodiscard]] bool grow(Segment& segment, std::size_t used, std::size_t bytes) noexcept;
  // Gives back what lies behind `used` bytes; before a segment is sent.
  void shrink(Segment& segment, std::size_t used) noexcept;
  // Takes back a segment that was never sent.
  void discard(const Segment& segment) noexcept;
  // Takes back what the peer has released.
  void reap() noexcept;
  // Returns up to `limit` bytes (a page at least) of free stretches to the system; true when there may be
  // more to return. Costs about a millisecond for 4 MiB: call it when idle, in steps that fit the caller's
  // patience.
  bool trim(std::size_t limit = SIZE_MAX) noexcept;

  [[nodiscard]] std::uint8_t* data(const Segment& segment) const noexcept { return memory_ + segment.offset; }
  [[nodiscard]] std::size_t bytes_in_use() const noexcept { return in_use_bytes_; }
  // At least what memory lies behind it; in use or idle.
  [[nodiscard]] std::size_t bytes_touched() const noexcept {
    return idle_pages_ || trim_cursor_ > 0 ? touched_end_ : in_use_bytes_;
  }
  // True when trim() would have something to do.
  [[nodiscard]] bool has_idle_pages() const noexcept { return idle_pages_ || trim_cursor_ > 0; }

 private:
  // The record of exactly this segment. A peer may mark a segment released that was never sent to it: then
  // its slot and pages may belong to another one by now, which a stale copy must not reach.
  [[nodiscard]] std::vector<Segment>::iterator record_of(const Segment& segment) noexcept;
  // At least one.
  [[nodiscard]] std::uint64_t whole_pages(std::size_t bytes) const noexcept;
  void take_back(std::vector<Segment>::iterator record) noexcept;
  void insert_free(std::uint64_t offset, std::uint64_t length) noexcept;

  std::uint8_t* memory_;
  std::size_t size_;
  std::atomic<std::uint32_t>* slots_;
  std::size_t page_;
  std::map<std::uint64_t, std::uint64_t> free_;  // offset → length, neighbours merged
  std::vector<Segment> in_use_;                  // sent or being written
  std::vector<std::uint32_t> free_slots_;
  std::size_t in_use_bytes_ = 0;
  bool idle_pages_ = false;        // something was freed since the last trim()
  std::uint64_t trim_cursor_ = 0;  // where the running trim() pass has got to; 0: none is running
  std::uint64_t touched_end_ = 0;  // no page at or behind this offset has been handed out
};

class ArenaPeer {
 public:
  ArenaPeer(std::uint8_t* memory, std::size_t size, std::atomic<std::uint32_t>* slots) noexcept
      : memory_(memory), size_(size), slots_(slots) {}

  // The bytes that a frame's SegmentRef names; nothing when it does not lie in the arena.
  [[nodiscard]] std::optional<std::span<const std::uint8_t>> view(const SegmentRef& ref) const noexcept {
    if (ref.slot >= kSegmentSlots || ref.offset > size_ || ref.length > size_ - ref.offset)
      return std::nullopt;
    return std::span<const std::uint8_t>{memory_ + ref.offset, static_cast<std::size_t>(ref.length)};
  }
  // From any thread, once for each segment received.
  void release(std::uint64_t slot) const noexcept {
    if (slot < kSegmentSlots) slots_[slot].store(kReleased, std::memory_order_release);
  }

 private:
  std::uint8_t* memory_;
  std::size_t size_;
  std::atomic<std::uint32_t>* slots_;
};

}  // namespace typhon::channel
