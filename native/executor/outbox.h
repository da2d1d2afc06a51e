// Outbox: Python's end of the reply ring (worker::Outlet): encodes objects into frames, which it sends.
//
// send() encodes into memory of its own first: encoding may run Python code, which may give the GIL to
// another thread or send something itself; only then is the frame published.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "channel/region.h"
#include "executor/lender.h"
#include "python/codec.h"
#include "python/module_state.h"
#include "python/types/object_table.h"
#include "worker/outlet.h"
#include "worker/timings.h"

namespace typhon::executor {

class Outbox final : public worker::Outlet {
 public:
  // `stop`: nobody reads any more; then frames are dropped. `lender`: for large bytes; or nullptr.
  Outbox(channel::Region& region, const std::atomic<bool>& stop, Lender* lender) noexcept;
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox() override = default;

  // With the GIL. `header`: kind, id and what else the frame carries; size and flags of the body are added.
  // `timings`: of an answer to a call. False with an exception set when `value` cannot be encoded; true also
  // when nobody is left to read it. `root`, `parts`: as in EncodeOptions.
  bool send(python::ModuleState& codec, channel::FrameHeader header, PyObject* value, const char* root,
            worker::Timings* timings = nullptr, std::span<const std::string_view> parts = {},
            bool as_object = false, python::Painter* painter = nullptr) noexcept;
  // As Outlet's, but not in a child that user code has forked.
  void ring_reader(bool more) noexcept;

  // Of what is sent from now on. nullptr: the native one.
  void set_dialect(const python::Erlport* erlport) noexcept { erlport_ = erlport; }
  void set_surrogates(python::Surrogates surrogates) noexcept { surrogates_ = surrogates; }
  // The forms of values that the other side reads.
  [[nodiscard]] python::EncodeOptions forms() const noexcept;
  // The type of views of the BEAM's memory, which may be lent back.
  void set_buffer_type(PyObject* type) noexcept { buffer_type_ = type; }
  [[nodiscard]] python::ObjectTable& objects() noexcept { return objects_; }
  // Bytes that one reply may take; with a lender large ones among them do not count.
  [[nodiscard]] std::uint64_t limit() const noexcept { return lender_ ? UINT64_MAX : max_result(); }
  // True once after a body went out in a segment.
  bool take_used_segment() noexcept { return used_segment_.exchange(false, std::memory_order_relaxed); }

 private:
  void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept override;

  Lender* const lender_;
  PyObject* buffer_type_ = nullptr;  // borrowed
  const python::Erlport* erlport_ = nullptr;
  python::Surrogates surrogates_ = python::Surrogates::kRefuse;
  python::ObjectTable objects_;  // with the GIL
  std::atomic<bool> used_segment_{false};
};

}  // namespace typhon::executor
