#include "executor/outbox.h"

#include <array>
#include <string_view>

#include "channel/doorbell.h"
#include "executor/leave_child.h"
#include "os/wait.h"
#include "python/gil.h"
#include "python/types/object_table.h"
#include "worker/forked.h"
#include "worker/reply_sink.h"

namespace typhon::executor {

using channel::FrameHeader;

Outbox::Outbox(channel::Region& region, const std::atomic<bool>& stop, Lender* lender) noexcept
    : worker::Outlet(region, stop), lender_(lender) {}

python::EncodeOptions Outbox::forms() const noexcept {
  python::EncodeOptions options;
  options.mapset_version = (header_.flags & channel::kFlagMapsetVersion) != 0;
  options.duration = (header_.flags & channel::kFlagDuration) != 0;
  options.tagged = (header_.flags & channel::kFlagTagged) != 0;
  options.surrogates = surrogates_;
  return options;
}

bool Outbox::send(python::ModuleState& codec, FrameHeader header, PyObject* value, const char* root,
                  worker::Timings* timings, std::span<const std::string_view> parts, bool as_object,
                  python::Painter* painter) noexcept {
  if (worker::in_forked_child()) return true;
  alignas(8) std::array<std::uint8_t, worker::ReplySink::kReserve> frame;  // uninitialised on purpose
  worker::ReplySink sink(frame.data(), *this);
  python::EncodeOptions options = forms();
  options.objects = &objects_;
  options.erlport = erlport_;
  Lending lending(lender_, buffer_type_);
  if (lender_) options.lender = &lending;
  options.painter = painter;
  options.as_object = as_object;
  options.root = root;
  options.parts = parts;
  bool has_objects = false;
  options.has_objects = &has_objects;
  const bool encoded = python::encode(codec, value, sink, options);
  // What is encoded may be code of the user's, which forks. The child has nothing to send, and none of what
  // is reserved here for its parent.
  if (worker::in_forked_child()) leave_child(encoded ? python::PyRef::borrow(Py_None) : python::PyRef());
  if (!encoded) {
    if (sink.lacks_memory()) PyErr_NoMemory();
    return false;
  }

  if (sink.in_segment()) used_segment_.store(true, std::memory_order_relaxed);
  const bool published = publish(sink, header, has_objects, timings, lending.first());
  if (!published || !lending.first()) return true;
  lending.sent();
  channel::LeftBehind{header_.reply_leavings.value, header_.reply_swept.value, region_.reply_ring(),
                      region_.ring_size(),          header_.reply_tail.value,  header_.reply_head.value}
      .look_after();
  return true;
}

void Outbox::ring_reader(bool more) noexcept {
  if (!worker::in_forked_child()) worker::Outlet::ring_reader(more);
}

void Outbox::wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept {
  const python::GilRelease without_gil;
  os::wait_word(room, 1, limit_ns);
}

}  // namespace typhon::executor
