#include "worker/outlet.h"

#include <cstring>

#include "channel/doorbell.h"
#include "os/wait.h"
#include "worker/reply_sink.h"
#include "worker/timings.h"

namespace typhon::worker {

using channel::FrameHeader;

namespace {

// Replies gathered before the reader is woken from its timed wait.
constexpr std::uint32_t kMaxDeferredWakes = 512;
constexpr std::int64_t kRoomWaitNs = 10'000'000;

// Of a frame that wants no answer, and that is none; 0 for any other.
std::uint32_t weight_as_statement(std::span<const std::uint8_t> frame) noexcept {
  FrameHeader header;
  std::memcpy(&header, frame.data(), sizeof header);
  const bool is_one =
      header.kind == channel::Kind::kSend || (header.kind == channel::Kind::kAsk && header.times[0] == 0);
  return is_one ? channel::statement_weight(header, frame.subspan(sizeof header)) : 0;
}

}  // namespace

Outlet::Outlet(channel::Region& region, const std::atomic<bool>& stop) noexcept
    : region_(region),
      header_(region.header()),
      stop_(stop),
      replies_(region.reply_ring(), region.ring_size(), header_.reply_tail.value, header_.reply_head.value),
      arena_(region.reply_arena(), region.arena_size(), header_.reply_slots) {}

bool Outlet::may_speak_locked(std::uint32_t weight) const noexcept {
  return spoken_ - header_.heard.value.load(std::memory_order_acquire) + weight <= channel::kMostStatements;
}

bool Outlet::must_wait_to_speak() noexcept {
  const Lock lock(mutex_);
  return !may_speak_locked(1);
}

// What is said in nobody's name lies in a mailbox of the BEAM's until it has been dealt with: only so much of
// it may. False: nobody reads any more.
bool Outlet::wait_until_heard(std::uint32_t weight) noexcept {
  auto& room = header_.heard_room.value;
  for (;;) {
    {
      const Lock lock(mutex_);
      if (!may_speak_locked(weight)) {
        ring_reader_locked(false);
        room.store(1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
      }
      if (may_speak_locked(weight)) {
        spoken_ += weight;
        return true;
      }
    }
    wait_for_room(room, kRoomWaitNs);
    if (stop_.load(std::memory_order_acquire) || header_.closing.value.load(std::memory_order_acquire) != 0)
      return false;
  }
}

bool Outlet::publish(ReplySink& sink, FrameHeader header, bool has_objects, Timings* timings,
                     channel::Loan* loans) noexcept {
  if (has_objects) header.flags |= channel::kHasObjects;
  if (timings) timings->write_to(header);
  const std::size_t size = sink.finish(header, loans);
  const std::uint32_t weight = weight_as_statement({sink.frame(), size});
  if (weight != 0 && !wait_until_heard(weight)) return false;
  return put_into_ring(sink.frame(), size);
}

// False: nobody reads any more.
bool Outlet::put_into_ring(const std::uint8_t* frame, std::size_t size) noexcept {
  const std::size_t bytes = channel::align8(size);
  // With the mutex, which the analysis does not see in a function within another.
  const auto put = [&]() TYPHON_NO_THREAD_SAFETY_ANALYSIS {
    std::uint8_t* at = replies_.reserve(bytes);
    if (!at) return false;
    std::memcpy(at, frame, size);
    replies_.commit(size);
    ring_reader_locked(more_.load(std::memory_order_relaxed));
    return true;
  };
  for (;;) {
    auto& room = header_.reply_room.value;
    {
      const Lock lock(mutex_);
      if (put()) return true;
      if (replies_.broken()) {
        broken_.store(true, std::memory_order_relaxed);
        return false;
      }
      ring_reader_locked(false);
      room.store(1, std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (put()) {
        room.store(0, std::memory_order_relaxed);
        os::wake_word(room, INT32_MAX);  // other threads of this worker may wait here, too
        return true;
      }
    }
    wait_for_room(room, kRoomWaitNs);
    if (stop_.load(std::memory_order_acquire) || header_.closing.value.load(std::memory_order_acquire) != 0)
      return false;
  }
}

void Outlet::ring_reader(bool more) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t state = header_.reader_word.value.load(std::memory_order_relaxed);
  if (state != channel::kAsleep && state != channel::kTimed) return;
  const Lock lock(mutex_);
  ring_reader_locked(more);
}

// The reader sleeps without a limit: wake it now. It waits with a limit and more replies are at hand: gather
// some.
void Outlet::ring_reader_locked(bool more) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& word = header_.reader_word.value;
  const std::uint32_t state = word.load(std::memory_order_relaxed);
  if (state == channel::kAsleep) {
    channel::wake_from(word, channel::kAsleep);
    deferred_wakes_ = 0;
  } else if (state == channel::kTimed) {
    const bool pending = header_.reply_tail.value.load(std::memory_order_relaxed) !=
                         header_.reply_head.value.load(std::memory_order_relaxed);
    if (!pending) return;
    if (more && ++deferred_wakes_ < kMaxDeferredWakes) return;
    deferred_wakes_ = 0;
    channel::wake_from(word, channel::kTimed);
  }
}

bool Outlet::has_idle_pages() noexcept {
  const Lock lock(mutex_);
  arena_.reap();
  return arena_.has_idle_pages();
}

bool Outlet::will_have_idle_pages() noexcept {
  const Lock lock(mutex_);
  arena_.reap();
  return arena_.has_idle_pages() || arena_.bytes_in_use() > 0;
}

bool Outlet::trim(std::size_t bytes) noexcept {
  const Lock lock(mutex_);
  return arena_.trim(bytes);
}

std::optional<channel::Segment> Outlet::allocate(std::size_t bytes, std::size_t at_least) noexcept {
  const Lock lock(mutex_);
  arena_.reap();
  if (has_memory_locked(bytes)) {
    if (auto segment = arena_.allocate(bytes)) return segment;
  }
  return has_memory_locked(at_least) ? arena_.allocate(at_least) : std::nullopt;
}

bool Outlet::has_memory(std::size_t bytes) noexcept {
  const Lock lock(mutex_);
  return has_memory_locked(bytes);
}

// Whether so many bytes more may lie in the arena. Idle pages are memory, too, until they are given back.
bool Outlet::has_memory_locked(std::size_t bytes) noexcept {
  if (!allows_ || allows_(arena_.bytes_touched() + bytes)) return true;
  while (arena_.trim()) {
  }
  return allows_(arena_.bytes_in_use() + bytes);
}

bool Outlet::grow(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept {
  const Lock lock(mutex_);
  if (bytes > segment.capacity && !has_memory_locked(bytes - segment.capacity)) return false;
  return arena_.grow(segment, used, bytes);
}

void Outlet::shrink(channel::Segment& segment, std::size_t used) noexcept {
  const Lock lock(mutex_);
  arena_.shrink(segment, used);
}

void Outlet::discard(const channel::Segment& segment) noexcept {
  const Lock lock(mutex_);
  arena_.discard(segment);
}

}  // namespace typhon::worker
