// Outbox: the worker's end of the reply ring and the reply arena: frames go out here, whole, from any thread.
//
// send() encodes into memory of its own first: encoding may run Python code, which may give the GIL to
// another thread or send something itself; only then is the frame copied into the ring, under the mutex.
// Nothing that holds the mutex needs the GIL, so it may be taken with the GIL held.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>

#include "channel/arena.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "executor/lender.h"
#include "python/codec.h"
#include "python/module_state.h"
#include "python/object_table.h"

namespace typhon::executor {

class Outbox {
 public:
  // `stop`: nobody reads any more; then frames are dropped. `lender`: for large bytes; or nullptr.
  Outbox(channel::Region& region, const std::atomic<bool>& stop, Lender* lender) noexcept;
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox() = default;

  // With the GIL. `header`: kind, id and what else the frame carries; size and flags of the body are added.
  // `times`: for a timed reply, with [4] the time its encoding began. False with an exception set when
  // `value` cannot be encoded; true also when nobody is left to read it. `root`, `parts`: as in
  // EncodeOptions.
  bool send(python::ModuleState& codec, channel::FrameHeader header, PyObject* value, const char* root,
            std::uint64_t* times = nullptr, std::span<const std::string_view> parts = {}) noexcept;
  // Answers a call that was given up before it ran. Any thread, without the GIL. False when there is no room.
  bool send_cancelled(std::uint64_t id) noexcept;
  // Wakes the reader if it sleeps. `more`: further frames are about to follow, so it may be put off.
  void ring_reader(bool more) noexcept;
  void set_more_to_come(bool more) noexcept { more_.store(more, std::memory_order_relaxed); }

  // Of what is sent from now on. nullptr: the native one.
  void set_dialect(const python::Erlport* erlport) noexcept { erlport_ = erlport; }
  // The type of views of the BEAM's memory, which may be lent back.
  void set_buffer_type(PyObject* type) noexcept { buffer_type_ = type; }
  [[nodiscard]] python::ObjectTable& objects() noexcept { return objects_; }
  // The BEAM overwrote the ring's counters.
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  // For an idle worker, without the GIL: gives pages back. has_idle_pages() also takes back what was
  // released.
  bool has_idle_pages() noexcept;
  bool trim(std::size_t bytes) noexcept;
  // True once after a body went out in a segment.
  bool take_used_segment() noexcept { return used_segment_.exchange(false, std::memory_order_relaxed); }

  // For ReplySink.
  std::optional<channel::Segment> allocate(std::size_t bytes, std::size_t at_least) noexcept;
  bool grow(channel::Segment& segment, std::size_t used, std::size_t bytes) noexcept;
  void shrink(channel::Segment& segment, std::size_t used) noexcept;
  void discard(const channel::Segment& segment) noexcept;
  [[nodiscard]] std::uint8_t* data(const channel::Segment& segment) const noexcept {
    return arena_.data(segment);
  }

 private:
  bool publish(const std::uint8_t* frame, std::size_t size) noexcept;
  void ring_reader_locked(bool more) noexcept;

  channel::Region& region_;
  channel::Header& header_;
  Lender* const lender_;
  PyObject* buffer_type_ = nullptr;  // borrowed
  const python::Erlport* erlport_ = nullptr;
  const std::atomic<bool>& stop_;
  python::ObjectTable objects_;  // with the GIL

  std::mutex mutex_;
  // Guarded by mutex_:
  channel::RingProducer replies_;
  channel::ArenaOwner arena_;
  std::uint32_t deferred_wakes_ = 0;

  std::atomic<bool> more_{false};
  std::atomic<bool> broken_{false};
  std::atomic<bool> used_segment_{false};
};

}  // namespace typhon::executor
