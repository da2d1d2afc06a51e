#include "ruby/outbox.h"

#include <array>

#include "os/wait.h"
#include "worker/forked.h"
#include "worker/reply_sink.h"

namespace typhon::ruby {

namespace {

struct RoomWait {
  std::atomic<std::uint32_t>* word;
  std::int64_t limit_ns;
};

VALUE no_memory(int& state) noexcept {
  return protect(state, [] {
    return rb_exc_new_cstr(rb_eNoMemError,
                           "the result does not fit into what limits: [memory:] of the pool allows");
  });
}

}  // namespace

Encoded Outbox::send(channel::FrameHeader header, VALUE value, const Options& options,
                     worker::Timings* timings) noexcept {
  if (worker::in_forked_child()) return {true, Qnil, 0};
  bool lacks_memory = false;
  const Encoded first = encode_and_publish(header, value, options, timings, lacks_memory);
  if (!lacks_memory) return first;
  // As when an allocation fails: garbage that Ruby has not collected yet counts, too.
  int state = 0;
  protect(state, [] {
    rb_gc();
    return Qnil;
  });
  lacks_memory = false;
  Encoded second = encode_and_publish(header, value, options, timings, lacks_memory);
  if (lacks_memory) second.error = no_memory(second.state);
  return second;
}

Encoded Outbox::encode_and_publish(channel::FrameHeader header, VALUE value, Options options,
                                   worker::Timings* timings, bool& lacks_memory) noexcept {
  alignas(8) std::array<std::uint8_t, worker::ReplySink::kReserve> frame;  // uninitialised on purpose
  worker::ReplySink sink(frame.data(), *this);
  bool has_objects = false;
  options.has_objects = &has_objects;
  options.mapset_version = (header_.flags & channel::kFlagMapsetVersion) != 0;
  const Encoded encoded = encode(value, sink, options);
  lacks_memory = sink.lacks_memory();
  if (encoded.ok) publish(sink, header, has_objects, timings);
  return encoded;
}

void Outbox::wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept {
  RoomWait wait{&room, limit_ns};
  // Without a look at interrupts: C++ objects are alive.
  rb_thread_call_without_gvl2(
      [](void* argument) -> void* {
        auto* const room_wait = static_cast<RoomWait*>(argument);
        os::wait_word(*room_wait->word, 1, room_wait->limit_ns);
        return nullptr;
      },
      &wait, nullptr, nullptr);
}

}  // namespace typhon::ruby
