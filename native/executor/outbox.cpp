#include "executor/outbox.h"

#include <array>
#include <cstring>
#include <string_view>

#include "channel/doorbell.h"
#include "executor/fork_guard.h"
#include "executor/reply_sink.h"
#include "python/gil.h"
#include "python/object_table.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::monotonic_ns;

namespace {

// Replies gathered before the reader is woken from its timed wait.
constexpr std::uint32_t kMaxDeferredWakes = 512;
constexpr std::int64_t kRoomWaitNs = 10'000'000;

}  // namespace

Outbox::Outbox(channel::Region& region, const std::atomic<bool>& stop, Lender* lender) noexcept
    : region_(region),
      header_(region.header()),
      lender_(lender),
      stop_(stop),
      replies_(region.reply_ring(), region.ring_size(), header_.reply_tail.value, header_.reply_head.value),
      arena_(region.reply_arena(), region.arena_size(), header_.reply_slots) {}

bool Outbox::send(python::ModuleState& codec, FrameHeader header, PyObject* value, const char* root,
                  std::uint64_t* times, std::span<const std::string_view> parts) noexcept {
  if (fork_guard::in_child()) return true;
  alignas(8) std::array<std::uint8_t, ReplySink::kReserve> frame;  // uninitialised on purpose
  ReplySink sink(frame.data(), *this);
  python::EncodeOptions options;
  options.mapset_version = (header_.flags & channel::kFlagMapsetVersion) != 0;
  options.objects = &objects_;
  options.erlport = erlport_;
  Lending lending(lender_, buffer_type_);
  if (lender_) options.lender = &lending;
  options.root = root;
  options.parts = parts;
  bool has_objects = false;
  options.has_objects = &has_objects;
  if (!python::encode(codec, value, sink, options)) return false;

  if (has_objects) header.flags |= channel::kHasObjects;
  if (times) {
    header.flags |= channel::kTimings;
    const std::uint64_t now = monotonic_ns();
    times[3] = now - std::min(now, times[4]);
    times[4] = now;
    std::memcpy(header.times, times, sizeof header.times);
  }
  if (sink.in_segment()) used_segment_.store(true, std::memory_order_relaxed);
  const bool published = publish(frame.data(), sink.finish(header, lending.first()));
  if (!published || !lending.first()) return true;
  lending.sent();
  channel::LeftBehind{header_.reply_leavings.value, header_.reply_swept.value, region_.reply_ring(),
                      region_.ring_size(),          header_.reply_tail.value,  header_.reply_head.value}
      .look_after();
  return true;
}

// False: nobody reads any more.
bool Outbox::publish(const std::uint8_t* frame, std::size_t size) noexcept {
  const std::size_t bytes = channel::align8(size);
  const auto put = [&] {
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
      std::lock_guard lock(mutex_);
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
        channel::futex_wake(room, INT32_MAX);  // other threads of this worker may wait here, too
        return true;
      }
    }
    const python::GilRelease without_gil;
    channel::futex_wait(room, 1, kRoomWaitNs);
    if (stop_.load(std::memory_order_acquire) || header_.closing.value.load(std::memory_order_acquire) != 0)
      return false;
  }
}

bool Outbox::send_cancelled(std::uint64_t id) noexcept {
  constexpr std::string_view kBody =
      "\x83w\x09"  // a small atom
      "cancelled";
  FrameHeader header{};
  header.size = static_cast<std::uint32_t>(sizeof header + kBody.size());
  header.kind = channel::Kind::kError;
  header.id = id;
  std::lock_guard lock(mutex_);
  std::uint8_t* at = replies_.reserve(channel::align8(header.size));
  if (!at) return false;
  std::memcpy(at, &header, sizeof header);
  std::memcpy(at + sizeof header, kBody.data(), kBody.size());
  replies_.commit(header.size);
  ring_reader_locked(false);
  return true;
}

void Outbox::ring_reader(bool more) noexcept {
  if (fork_guard::in_child()) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t state = header_.reader_word.value.load(std::memory_order_relaxed);
  if (state != channel::kAsleep && state != channel::kTimed) return;
  std::lock_guard lock(mutex_);
  ring_reader_locked(more);
}

// The reader sleeps without a limit: wake it now. It waits with a limit and more replies are at hand: gather
// some.
void Outbox::ring_reader_locked(bool more) noexcept {
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

bool Outbox::has_idle_pages() noexcept {
  std::lock_guard lock(mutex_);
  arena_.reap();
  return arena_.has_idle_pages();
}

bool Outbox::trim(std::size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  return arena_.trim(bytes);
}

std::optional<channel::Segment> Outbox::allocate(std::size_t bytes, std::size_t at_least) noexcept {
  std::lock_guard lock(mutex_);
  arena_.reap();
  auto segment = arena_.allocate(bytes);
  return segment ? segment : arena_.allocate(at_least);
}

bool Outbox::grow(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  return arena_.grow(segment, used, bytes);
}

void Outbox::shrink(channel::Segment& segment, std::size_t used) noexcept {
  std::lock_guard lock(mutex_);
  arena_.shrink(segment, used);
}

void Outbox::discard(const channel::Segment& segment) noexcept {
  std::lock_guard lock(mutex_);
  arena_.discard(segment);
}

}  // namespace typhon::executor
