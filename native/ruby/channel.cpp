// Typhon::Native::Channel and Waiter: the worker's end of a channel (Link), as the Ruby side
// (ruby/typhon/worker.rb) works with it.
//
// Everything needs Ruby's lock but what sleeps.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <new>
#include <utility>

#include "os/descriptor.h"
#include "ruby/codec.h"
#include "ruby/frame.h"
#include "ruby/link.h"
#include "worker/address_space.h"
#include "worker/attach.h"
#include "worker/forked.h"
#include "worker/mailroom.h"
#include "worker/timings.h"

namespace typhon::ruby {
namespace {

using channel::FrameHeader;
using channel::Kind;

// --- Channel ---

struct Channel {
  Link* link;
};

const rb_data_type_t kChannelType = {"Typhon::Native::Channel",
                                     {nullptr, RUBY_DEFAULT_FREE, nullptr, nullptr, {}},
                                     nullptr,
                                     nullptr,
                                     RUBY_TYPED_FREE_IMMEDIATELY};

Link& link_of(VALUE self) { return *static_cast<Channel*>(rb_check_typeddata(self, &kChannelType))->link; }

// nullptr, and why in `error`. The Link lives for the rest of the process.
Link* attach(int beam_pid, int fd, int control, char* error, std::size_t size) noexcept {
  try {
    os::UniqueFd control_fd(control);
    auto region = worker::attach(beam_pid, fd);
    if (!region.ok()) {
      std::snprintf(error, size, "%s", region.error().message.c_str());
      return nullptr;
    }
    auto* const link = new Link(std::move(region).value(), std::move(control_fd), beam_pid);
    const Status started = link->start();
    if (started.ok()) return link;
    std::snprintf(error, size, "%s", started.error().message.c_str());
  } catch (const std::bad_alloc&) {
    std::snprintf(error, size, "there is no memory for it");
  }
  return nullptr;
}

// Channel.attach(beam_pid, fd, control_fd) -> channel
VALUE channel_attach(VALUE self, VALUE beam_pid, VALUE fd, VALUE control) {
  const int numbers[3] = {NUM2INT(beam_pid), NUM2INT(fd), NUM2INT(control)};
  Channel* channel = nullptr;
  const VALUE object = TypedData_Make_Struct(self, Channel, &kChannelType, channel);
  char error[512] = "";
  channel->link = attach(numbers[0], numbers[1], numbers[2], error, sizeof error);
  if (channel->link == nullptr) rb_raise(rb_eIOError, "%s", error);
  return object;
}

VALUE channel_generation(VALUE self) { return UINT2NUM(link_of(self).readers().generation()); }
VALUE channel_ends(VALUE self) { return link_of(self).ends() ? Qtrue : Qfalse; }
VALUE channel_broken(VALUE self) { return link_of(self).broken() ? Qtrue : Qfalse; }
VALUE channel_forked(VALUE) { return worker::in_forked_child() ? Qtrue : Qfalse; }
// After Process.setrlimit: what results lie in counts, too.
VALUE channel_limit_memory(VALUE self) {
  link_of(self).outbox().limit_memory(worker::address_space_allows);
  return Qnil;
}
VALUE channel_wake(VALUE self) {
  link_of(self).readers().wake();
  return Qnil;
}
VALUE channel_cast_done(VALUE self) {
  link_of(self).cast_done();
  return Qnil;
}

// next_call() -> the next frame for whoever serves, or nil
VALUE channel_next_call(VALUE self) {
  Link& link = link_of(self);
  if (!link.mailroom().has_calls()) return Qnil;
  const VALUE frame = take_frame(link, [&link] { return link.mailroom().take_call(); });
  RB_GC_GUARD(self);
  return frame;
}

// next_message() -> the next message, or nil
VALUE channel_next_message(VALUE self) {
  Link& link = link_of(self);
  if (!link.mailroom().has_messages()) return Qnil;
  const VALUE frame = take_frame(link, [&link] { return link.mailroom().take_message(); });
  RB_GC_GUARD(self);
  return frame;
}

// --- Waiter: a thread that waits for the answer to what it asks ---

struct Waiter {
  Link* link;
  std::uint64_t tag;
  bool waits;
  worker::Lane lane;
  worker::Waiter waiter;
};

void stop_waiting(Waiter& waiter) noexcept {
  if (std::exchange(waiter.waits, false)) waiter.link->mailroom().remove_waiter(waiter.tag);
}

void free_waiter(void* data) {
  auto* const waiter = static_cast<Waiter*>(data);
  stop_waiting(*waiter);
  waiter->~Waiter();
  ruby_xfree(waiter);
}

const rb_data_type_t kWaiterType = {"Typhon::Native::Waiter",
                                    {nullptr, free_waiter, nullptr, nullptr, {}},
                                    nullptr,
                                    nullptr,
                                    RUBY_TYPED_FREE_IMMEDIATELY};

Waiter& waiter_of(VALUE self) { return *static_cast<Waiter*>(rb_check_typeddata(self, &kWaiterType)); }

// waiter() -> a Waiter with a tag of its own: its question has not been sent yet
VALUE channel_waiter(VALUE self) {
  Link& link = link_of(self);
  Waiter* waiter = nullptr;
  const VALUE object = TypedData_Make_Struct(names().waiter, Waiter, &kWaiterType, waiter);
  new (waiter) Waiter{&link, link.new_tag(), true, {}, {}};
  waiter->waiter.lane = &waiter->lane;
  link.mailroom().add_waiter(waiter->tag, waiter->waiter);
  RB_GC_GUARD(self);
  return object;
}

VALUE waiter_tag(VALUE self) { return ULL2NUM(waiter_of(self).tag); }

// next_nested() -> a call that is made in the course of its question, or nil
VALUE waiter_next_nested(VALUE self) {
  Waiter& waiter = waiter_of(self);
  // The mailroom changes with Ruby's lock alone.
  if (waiter.waiter.nested.empty()) return Qnil;
  const VALUE frame =
      take_frame(*waiter.link, [&waiter] { return waiter.link->mailroom().take_nested(waiter.waiter); });
  RB_GC_GUARD(self);
  return frame;
}

// take_answer() -> the answer, or nil
VALUE waiter_take_answer(VALUE self) {
  Waiter& waiter = waiter_of(self);
  if (!waiter.waiter.answer) return Qnil;
  const VALUE frame =
      take_frame(*waiter.link, [&waiter] { return waiter.link->mailroom().take_answer(waiter.waiter); });
  RB_GC_GUARD(self);
  return frame;
}

// stop(): it waits no longer; nested calls that it has not begun are calls like any other now
VALUE waiter_stop(VALUE self) {
  stop_waiting(waiter_of(self));
  return Qnil;
}

// --- waiting ---

struct Sleep {
  Link* link;
  std::uint32_t generation;
  std::int64_t limit_ns;
  std::atomic<bool> interrupted;
};

void sleep(Sleep& sleep) {
  rb_thread_call_without_gvl2(
      [](void* argument) -> void* {
        auto* const wait = static_cast<Sleep*>(argument);
        wait->link->sleep(wait->generation, wait->limit_ns, wait->interrupted);
        return nullptr;
      },
      &sleep,
      [](void* argument) {
        auto* const wait = static_cast<Sleep*>(argument);
        wait->interrupted.store(true, std::memory_order_seq_cst);
        wait->link->readers().wake();
      },
      &sleep);
}

// take(generation, seconds | nil) -> whether something has come. False after the time, and after what may
// have been an interrupt, of which nothing is lost: the caller looks again.
VALUE channel_take(VALUE self, VALUE generation, VALUE seconds) {
  Link& link = link_of(self);
  const std::uint32_t seen = NUM2UINT(generation);
  constexpr double kLongest = 9e9;
  const std::int64_t limit =
      NIL_P(seconds) ? -1 : static_cast<std::int64_t>(std::clamp(NUM2DBL(seconds), 0.0, kLongest) * 1e9);
  if (worker::in_forked_child())
    rb_raise(rb_eRuntimeError,
             "this process was forked by a worker of Typhon: only the worker itself can talk to the BEAM");
  if (link.readers().read()) return Qtrue;
  if (link.readers().generation() != seen || link.ends() || link.broken()) return Qfalse;
  link.outbox().ring_reader(false);
  if (!link.mailroom().spin_for_frame()) {
    Sleep wait{&link, seen, limit, false};
    sleep(wait);
  }
  const bool any = link.readers().read();
  RB_GC_GUARD(self);
  return any ? Qtrue : Qfalse;
}

// commands() -> [id, ...]; nil: the worker ends. Waits for them.
VALUE channel_commands(VALUE self) {
  Link& link = link_of(self);
  Sleep sleep{&link, 0, 0, false};
  rb_thread_call_without_gvl2(
      [](void* argument) -> void* {
        auto* const wait = static_cast<Sleep*>(argument);
        wait->link->wait_for_commands(wait->interrupted);
        return nullptr;
      },
      &sleep,
      [](void* argument) {
        auto* const wait = static_cast<Sleep*>(argument);
        wait->interrupted.store(true, std::memory_order_seq_cst);
        wait->link->ring_commands();
      },
      &sleep);
  if (link.ending()) return Qnil;
  const VALUE ids = rb_ary_new();
  while (const std::uint64_t id = link.take_command()) rb_ary_push(ids, ULL2NUM(id));
  RB_GC_GUARD(self);
  return ids;
}

Options options_for(VALUE objects, VALUE dialect, const char* root) {
  Options options;
  options.dialect = RTEST(dialect) ? Dialect::kErlport : Dialect::kNative;
  options.objects = objects;
  options.root = root;
  return options;
}

// reply(frame, error?, value, objects, dialect): answers a call
VALUE channel_reply(VALUE self, VALUE request, VALUE failed, VALUE value, VALUE objects, VALUE dialect) {
  Link& link = link_of(self);
  Frame& frame = frame_of(request);
  FrameHeader header{};
  header.kind = RTEST(failed) ? Kind::kError : Kind::kReply;
  header.id = frame.incoming.header.id;
  // One that was refused has not been decoded.
  if (frame.has_body) frame.timings = worker::Timings::unserved(frame.incoming.header);
  frame.timings.add(worker::Timings::Part::kRunning);
  link.outbox().set_more_to_come(link.mailroom().has_calls() || !link.mailroom().ring_empty());
  Options options = options_for(objects, dialect, RTEST(failed) ? "error" : "result");
  options.as_object = !RTEST(failed) && (frame.incoming.header.flags & channel::kAsObject) != 0;
  const Encoded sent = link.outbox().send(header, value, options, &frame.timings);
  RB_GC_GUARD(request);
  if (!sent.ok) raise_failure(sent.error, sent.state);
  return Qnil;
}

// send(kind, id, tag, value, objects, dialect): what is no answer to a call
VALUE channel_send(VALUE self, VALUE kind, VALUE id, VALUE tag, VALUE value, VALUE objects, VALUE dialect) {
  Link& link = link_of(self);
  FrameHeader header{};
  header.kind = static_cast<Kind>(NUM2UINT(kind));
  header.id = NUM2ULL(id);
  header.times[0] = NUM2ULL(tag);
  const char* const root = header.kind == Kind::kReady ? "greeting"
                           : header.kind == Kind::kAsk ? "call"
                                                       : "message";
  link.outbox().set_more_to_come(false);
  const Encoded sent = link.outbox().send(header, value, options_for(objects, dialect, root), nullptr);
  if (!sent.ok) raise_failure(sent.error, sent.state);
  link.outbox().ring_reader(false);
  return Qnil;
}

}  // namespace

void define_channel(VALUE native) {
  const VALUE waiter = rb_define_class_under(native, "Waiter", rb_cObject);
  names().waiter = waiter;
  rb_gc_register_mark_object(waiter);
  rb_undef_alloc_func(waiter);
  define_method(waiter, "tag", waiter_tag, 0);
  define_method(waiter, "next_nested", waiter_next_nested, 0);
  define_method(waiter, "take_answer", waiter_take_answer, 0);
  define_method(waiter, "stop", waiter_stop, 0);

  const VALUE channel = rb_define_class_under(native, "Channel", rb_cObject);
  rb_undef_alloc_func(channel);
  rb_define_singleton_method(channel, "attach", RUBY_METHOD_FUNC(channel_attach), 3);
  define_method(channel, "generation", channel_generation, 0);
  define_method(channel, "ends?", channel_ends, 0);
  define_method(channel, "broken?", channel_broken, 0);
  define_method(channel, "forked?", channel_forked, 0);
  define_method(channel, "limit_memory", channel_limit_memory, 0);
  define_method(channel, "wake", channel_wake, 0);
  define_method(channel, "cast_done", channel_cast_done, 0);
  define_method(channel, "next_call", channel_next_call, 0);
  define_method(channel, "next_message", channel_next_message, 0);
  define_method(channel, "waiter", channel_waiter, 0);
  define_method(channel, "take", channel_take, 2);
  define_method(channel, "commands", channel_commands, 0);
  define_method(channel, "reply", channel_reply, 5);
  define_method(channel, "send_frame", channel_send, 6);
}

}  // namespace typhon::ruby
