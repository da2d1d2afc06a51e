#include "channel/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "os/memory.h"

namespace typhon::channel {

ArenaOwner::ArenaOwner(std::uint8_t* memory, std::size_t size, std::atomic<std::uint32_t>* slots,
                       std::size_t page) noexcept
    : memory_(memory), size_(size), slots_(slots), page_(page) {
  free_.emplace(0, size);
  in_use_.reserve(kSegmentSlots);
  free_slots_.reserve(kSegmentSlots);
  for (std::uint32_t slot = kSegmentSlots; slot-- > 0;) free_slots_.push_back(slot);
}

std::optional<Segment> ArenaOwner::allocate(std::size_t bytes) noexcept {
  if (bytes > size_ || free_slots_.empty()) return std::nullopt;
  const std::uint64_t length = whole_pages(bytes);
  const auto found =
      std::find_if(free_.begin(), free_.end(), [&](const auto& stretch) { return stretch.second >= length; });
  if (found == free_.end()) return std::nullopt;

  const Segment segment{free_slots_.back(), found->first, length};
  const std::uint64_t rest = found->second - length;
  auto node = free_.extract(found);
  if (rest > 0) {  // the node is reused: no allocation that could fail
    node.key() = segment.offset + length;
    node.mapped() = rest;
    free_.insert(std::move(node));
  }
  free_slots_.pop_back();
  in_use_.push_back(segment);
  in_use_bytes_ += length;
  touched_end_ = std::max(touched_end_, segment.offset + length);
  slots_[segment.slot].store(kUsed, std::memory_order_relaxed);
  return segment;
}

bool ArenaOwner::grow(Segment& segment, std::size_t used, std::size_t bytes) noexcept {
  if (bytes <= segment.capacity) return true;
  if (bytes > size_) return false;
  const std::uint64_t wanted = whole_pages(bytes);
  const std::uint64_t more = wanted - segment.capacity;
  const auto self = record_of(segment);
  if (self == in_use_.end()) return false;

  const auto next = free_.find(segment.offset + segment.capacity);
  if (next != free_.end() && next->second >= more) {
    const std::uint64_t rest = next->second - more;
    auto node = free_.extract(next);
    if (rest > 0) {
      node.key() = segment.offset + wanted;
      node.mapped() = rest;
      free_.insert(std::move(node));
    }
    segment.capacity = wanted;
    self->capacity = wanted;
    in_use_bytes_ += more;
    touched_end_ = std::max(touched_end_, segment.offset + wanted);
    return true;
  }
  const auto moved = allocate(bytes);
  if (!moved) return false;
  std::memcpy(data(*moved), data(segment), used);
  discard(segment);
  segment = *moved;
  return true;
}

void ArenaOwner::shrink(Segment& segment, std::size_t used) noexcept {
  const std::uint64_t kept = whole_pages(used);
  if (kept >= segment.capacity) return;
  const auto self = record_of(segment);
  if (self == in_use_.end()) return;
  const std::uint64_t given = segment.capacity - kept;
  insert_free(segment.offset + kept, given);
  segment.capacity = kept;
  self->capacity = kept;
  in_use_bytes_ -= given;
}

void ArenaOwner::discard(const Segment& segment) noexcept {
  const auto self = record_of(segment);
  if (self != in_use_.end()) take_back(self);
}

void ArenaOwner::reap() noexcept {
  for (auto segment = in_use_.begin(); segment != in_use_.end();) {
    if (slots_[segment->slot].load(std::memory_order_acquire) == kReleased) {
      take_back(segment);  // the last one takes its place
    } else {
      ++segment;
    }
  }
}

std::uint64_t ArenaOwner::whole_pages(std::size_t bytes) const noexcept {
  return os::round_up(std::max<std::size_t>(bytes, 1), page_);
}

std::vector<Segment>::iterator ArenaOwner::record_of(const Segment& segment) noexcept {
  return std::find_if(in_use_.begin(), in_use_.end(), [&](const Segment& other) {
    return other.slot == segment.slot && other.offset == segment.offset && other.capacity == segment.capacity;
  });
}

void ArenaOwner::take_back(std::vector<Segment>::iterator record) noexcept {
  const Segment segment = *record;
  *record = in_use_.back();
  in_use_.pop_back();
  slots_[segment.slot].store(kFree, std::memory_order_relaxed);
  free_slots_.push_back(segment.slot);
  in_use_bytes_ -= segment.capacity;
  insert_free(segment.offset, segment.capacity);
}

void ArenaOwner::insert_free(std::uint64_t offset, std::uint64_t length) noexcept {
  idle_pages_ = true;
  auto next = free_.lower_bound(offset);
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      previous->second += length;
      if (next != free_.end() && previous->first + previous->second == next->first) {
        previous->second += next->second;
        free_.erase(next);
      }
      return;
    }
  }
  if (next != free_.end() && offset + length == next->first) {
    auto node = free_.extract(next);
    node.key() = offset;
    node.mapped() += length;
    free_.insert(std::move(node));
    return;
  }
  free_.emplace(offset, length);
}

bool ArenaOwner::trim(std::size_t limit) noexcept {
  // A pass runs from the highest touched page downwards. What is freed behind the cursor meanwhile sets
  // idle_pages_ again and is left to the next pass.
  if (trim_cursor_ == 0) {
    trim_cursor_ = touched_end_;
    idle_pages_ = false;
  }
  limit = std::max(limit & ~(page_ - 1), page_);  // the system takes whole pages
  std::size_t returned = 0;
  while (trim_cursor_ > 0) {
    auto stretch = free_.lower_bound(trim_cursor_);
    if (stretch == free_.begin()) {
      trim_cursor_ = 0;
      break;
    }
    --stretch;
    const std::uint64_t end = std::min(stretch->first + stretch->second, trim_cursor_);
    if (returned >= limit) return true;
    const std::uint64_t step = std::min<std::uint64_t>(end - stretch->first, limit - returned);
    os::discard_shared(memory_ + (end - step), step);
    returned += step;
    trim_cursor_ = end - step;
  }
  return idle_pages_;
}

}  // namespace typhon::channel
