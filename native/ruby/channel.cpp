// Typhon::Native::Channel and Frame: the worker's end of a channel, as the Ruby side (ruby/typhon/worker.rb)
// works with it.
//
// Who reads the ring. Whichever thread waits for something takes out all frames that are there, and puts each
// where it belongs (route): no Ruby code runs in between, so no exception from another thread can lose one.
// What is not its own the others find when they look again: the generation says that they must. All of them
// sleep on the worker's word.
//
// Everything needs Ruby's lock but what sleeps, and what the LifeWatch calls.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "channel/arena.h"
#include "channel/claim.h"
#include "channel/doorbell.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "os/clock.h"
#include "os/descriptor.h"
#include "os/thread.h"
#include "os/wait.h"
#include "ruby/codec.h"
#include "worker/address_space.h"
#include "worker/attach.h"
#include "worker/forked.h"
#include "worker/life_watch.h"
#include "worker/outlet.h"
#include "worker/reply_sink.h"
#include "worker/timings.h"

namespace typhon::ruby {
namespace {

using channel::FrameHeader;
using channel::Kind;
using channel::SegmentRef;
using os::monotonic_ns;

// How long a thread sleeps at most when it is not the only one.
constexpr std::int64_t kLookAroundNs = 1'000'000'000;
constexpr std::int64_t kTrimAfterNs = 5'000'000'000;

struct Sending {
  std::atomic<std::uint32_t>* word;
  std::int64_t limit_ns;
};

class Outbox final : public worker::Outlet {
 public:
  using Outlet::Outlet;

  Encoded send(FrameHeader header, VALUE value, Options options, worker::Timings* timings) noexcept {
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

 private:
  Encoded encode_and_publish(FrameHeader header, VALUE value, Options options, worker::Timings* timings,
                             bool& lacks_memory) noexcept {
    alignas(8) std::array<std::uint8_t, worker::ReplySink::kReserve> frame;  // uninitialised on purpose
    worker::ReplySink sink(frame.data(), *this);
    bool has_objects = false;
    options.has_objects = &has_objects;
    options.mapset_version = (header_.flags & channel::kFlagMapsetVersion) != 0;
    const Encoded encoded = encode(value, sink, options);
    lacks_memory = sink.lacks_memory();
    if (!encoded.ok) return encoded;
    publish(sink, header, has_objects, timings);
    return encoded;
  }
  static VALUE no_memory(int& state) noexcept {
    return protect(state, [] {
      return rb_exc_new_cstr(rb_eNoMemError,
                             "the result does not fit into what limits: [memory:] of the pool allows");
    });
  }
  void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept override {
    Sending sending{&room, limit_ns};
    // Without a look at interrupts: C++ objects are alive.
    rb_thread_call_without_gvl2(
        [](void* argument) -> void* {
          auto* const wait = static_cast<Sending*>(argument);
          os::wait_word(*wait->word, 1, wait->limit_ns);
          return nullptr;
        },
        &sending, nullptr, nullptr);
  }
};

class Link final : public worker::Interruptible {
 public:
  Link(std::unique_ptr<channel::Region> region, os::UniqueFd control, int beam_pid) noexcept
      : region_(*region.release()),
        header_(region_.header()),
        arena_(region_.request_arena(), region_.arena_size(), header_.request_slots),
        requests_(region_.request_ring(), region_.ring_size(), header_.request_tail.value,
                  header_.request_head.value),
        claims_(region_.claims()),
        life_(std::move(control), beam_pid, 0, header_, *this),
        outbox_(region_, life_.stop_flag()),
        spin_ns_(std::min<std::uint64_t>(header_.worker_spin_us, 10'000) * 1000) {}
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] Status start() noexcept { return life_.start(); }
  [[nodiscard]] Outbox& outbox() noexcept { return outbox_; }
  [[nodiscard]] channel::Header& header() noexcept { return header_; }
  [[nodiscard]] const channel::ArenaPeer& arena() const noexcept { return arena_; }
  [[nodiscard]] std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_seq_cst);
  }
  [[nodiscard]] bool ends() const noexcept { return life_.let_go(); }
  [[nodiscard]] bool broken() const noexcept { return broken_ || outbox_.broken(); }
  [[nodiscard]] std::uint64_t new_tag() noexcept { return next_tag_++; }

  // --- the ring ---
  [[nodiscard]] bool empty() const noexcept { return requests_.empty(); }
  bool peek(FrameHeader& header, std::span<const std::uint8_t>& body) noexcept {
    switch (requests_.peek(header, body)) {
      case channel::RingConsumer::State::kEmpty:
        return false;
      case channel::RingConsumer::State::kFrame:
        return true;
      case channel::RingConsumer::State::kBroken:
        break;
    }
    broken_ = true;
    return false;
  }
  [[nodiscard]] bool claim(std::uint64_t id) const noexcept { return claims_.take(id); }
  void pop() noexcept {
    requests_.pop();
    channel::tell_of_room(header_, region_.ring_size());
  }

  // --- sleeping ---
  bool spin() noexcept {
    if (spin_ns_ == 0 || !spin_guard_.spin_allowed()) return false;
    const bool polled = header_.reader_word.value.load(std::memory_order_relaxed) == channel::kPolled;
    const std::uint64_t limit = monotonic_ns() + (polled ? spin_ns_ / 5 : spin_ns_);
    for (unsigned round = 1;; ++round) {
      if (!empty()) return true;
      os::cpu_relax();
      if (round % 16 != 0) continue;
      if (monotonic_ns() > limit) return false;
      if (!spin_guard_.yield([&] { return !empty(); })) return false;
    }
  }
  // Without Ruby's lock. `limit_ns` negative: no limit.
  void sleep(std::uint64_t generation, std::int64_t limit_ns, const std::atomic<bool>& interrupted) noexcept {
    auto& word = header_.worker_word.value;
    bool alone = true;
    {
      const std::lock_guard lock(sleeping_);
      alone = ++sleepers_ == 1;
      word.store(channel::kAsleep, std::memory_order_relaxed);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (empty() && this->generation() == generation && !ends() &&
        !interrupted.load(std::memory_order_seq_cst)) {
      const bool trims = alone && outbox_.will_have_idle_pages();
      const std::int64_t most = !alone ? kLookAroundNs : trims ? kTrimAfterNs : std::int64_t{-1};
      const std::int64_t limit =
          most < 0 || limit_ns < 0 ? std::max(most, limit_ns) : std::min(most, limit_ns);
      os::wait_word(word, channel::kAsleep, limit);
      if (trims && empty() && word.load(std::memory_order_relaxed) == channel::kAsleep) outbox_.trim();
    }
    const std::lock_guard lock(sleeping_);
    // Others may sleep on: whoever publishes has to wake them.
    word.store(--sleepers_ > 0 ? channel::kAsleep : channel::kAwake, std::memory_order_relaxed);
  }
  // Any thread: everybody who waits looks again.
  void wake() noexcept {
    generation_.fetch_add(1, std::memory_order_seq_cst);
    auto& word = header_.worker_word.value;
    std::uint32_t asleep = channel::kAsleep;
    word.compare_exchange_strong(asleep, channel::kAwake, std::memory_order_seq_cst);
    os::wake_word(word, INT32_MAX);
  }

  // --- the LifeWatch ---
  bool interrupt(std::uint64_t id) noexcept override {
    {
      const std::lock_guard lock(commands_mutex_);
      commands_.push_back(id);
    }
    ring_commands();
    return false;
  }
  void interrupt_all() noexcept override {
    ending_.store(true, std::memory_order_seq_cst);
    ring_commands();
    wake();
  }
  bool interrupt_again() noexcept override { return false; }
  void interrupt_now() noexcept override { wake(); }

  // For the thread that interrupts; without Ruby's lock.
  void wait_for_commands(const std::atomic<bool>& interrupted) noexcept {
    const std::uint32_t seen = commands_word_.load(std::memory_order_seq_cst);
    if (!interrupted.load(std::memory_order_seq_cst) && !has_commands())
      os::wait_word(commands_word_, seen, -1);
  }
  void ring_commands() noexcept {
    commands_word_.fetch_add(1, std::memory_order_seq_cst);
    os::wake_word(commands_word_, INT32_MAX);
  }
  bool has_commands() noexcept {
    if (ending_.load(std::memory_order_seq_cst)) return true;
    const std::lock_guard lock(commands_mutex_);
    return !commands_.empty();
  }
  // 0: none.
  std::uint64_t take_command() noexcept {
    const std::lock_guard lock(commands_mutex_);
    if (commands_.empty()) return 0;
    const std::uint64_t id = commands_.front();
    commands_.pop_front();
    return id;
  }
  [[nodiscard]] bool ending() const noexcept { return ending_.load(std::memory_order_seq_cst); }

 private:
  channel::Region& region_;  // for the rest of the process
  channel::Header& header_;
  channel::ArenaPeer arena_;
  channel::RingConsumer requests_;
  const channel::Claims claims_;
  worker::LifeWatch life_;
  Outbox outbox_;
  const std::uint64_t spin_ns_;
  channel::SpinGuard spin_guard_;
  bool broken_ = false;
  std::uint64_t next_tag_ = 1;

  std::atomic<std::uint64_t> generation_{0};
  std::mutex sleeping_;
  unsigned sleepers_ = 0;  // guarded by sleeping_

  std::mutex commands_mutex_;
  std::deque<std::uint64_t> commands_;  // guarded by commands_mutex_
  std::atomic<std::uint32_t> commands_word_{0};
  std::atomic<bool> ending_{false};
};

// --- Frame ---

struct Frame {
  FrameHeader header;
  Link* link;
  std::uint8_t* body;
  std::size_t size;
  worker::Timings timings;  // from when it is decoded
};

void release_segment(Frame& frame) noexcept {
  if ((frame.header.flags & channel::kInSegment) == 0 || frame.size != sizeof(SegmentRef)) return;
  SegmentRef ref{};
  std::memcpy(&ref, frame.body, sizeof ref);
  if (!worker::in_forked_child()) frame.link->arena().release(ref.slot);
}

void let_go(Frame& frame) noexcept {
  if (frame.body == nullptr) return;
  release_segment(frame);
  std::free(frame.body);
  frame.body = nullptr;
  frame.size = 0;
}

void free_frame(void* data) {
  auto* const frame = static_cast<Frame*>(data);
  let_go(*frame);
  ruby_xfree(frame);
}

std::size_t frame_size(const void* data) { return sizeof(Frame) + static_cast<const Frame*>(data)->size; }

const rb_data_type_t kFrameType = {"Typhon::Native::Frame",
                                   {nullptr, free_frame, frame_size, nullptr, {}},
                                   nullptr,
                                   nullptr,
                                   RUBY_TYPED_FREE_IMMEDIATELY};

Frame& frame_of(VALUE self) { return *static_cast<Frame*>(rb_check_typeddata(self, &kFrameType)); }

VALUE frame_kind(VALUE self) { return UINT2NUM(static_cast<unsigned>(frame_of(self).header.kind)); }
VALUE frame_id(VALUE self) { return ULL2NUM(frame_of(self).header.id); }
VALUE frame_parent(VALUE self) { return ULL2NUM(frame_of(self).header.times[2]); }
VALUE frame_captured(VALUE self) { return frame_of(self).header.times[3] != 0 ? Qtrue : Qfalse; }
VALUE frame_failed(VALUE self) {
  return (frame_of(self).header.flags & channel::kFailed) != 0 ? Qtrue : Qfalse;
}
VALUE frame_expired(VALUE self) {
  const std::uint64_t deadline = frame_of(self).header.times[1];
  return deadline != 0 && os::is_past(deadline) ? Qtrue : Qfalse;
}

// claim? -> whether it may begin; of a call that the BEAM has taken back nobody waits for an answer
VALUE frame_claim(VALUE self) {
  Frame& frame = frame_of(self);
  if (frame.header.kind != Kind::kCall || frame.link->claim(frame.header.id)) return Qtrue;
  frame.header.flags &= static_cast<std::uint8_t>(~channel::kInSegment);  // the BEAM's again
  let_go(frame);
  return Qfalse;
}

// ids() -> the objects that a release names
VALUE frame_ids(VALUE self) {
  const Frame& frame = frame_of(self);
  const VALUE ids = rb_ary_new();
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= frame.size; at += sizeof(std::uint64_t)) {
    std::uint64_t id = 0;
    std::memcpy(&id, frame.body + at, sizeof id);
    rb_ary_push(ids, ULL2NUM(id));
  }
  return ids;
}

// decode(objects, dialect) -> the term; once
VALUE frame_decode(VALUE self, VALUE objects, VALUE dialect) {
  Frame& frame = frame_of(self);
  std::span<const std::uint8_t> bytes(frame.body, frame.size);
  if (frame.body == nullptr) rb_raise(rb_eRuntimeError, "a frame is decoded once");
  if ((frame.header.flags & channel::kInSegment) != 0) {
    SegmentRef ref{};
    if (bytes.size() == sizeof ref) std::memcpy(&ref, bytes.data(), sizeof ref);
    const auto view = bytes.size() == sizeof ref ? frame.link->arena().view(ref) : std::nullopt;
    if (!view) rb_raise(rb_eRuntimeError, "a request names a segment outside of its arena");
    bytes = *view;
  }
  Options options;
  options.dialect = RTEST(dialect) ? Dialect::kErlport : Dialect::kNative;
  options.objects = objects;
  options.is_call = frame.header.kind == Kind::kCall || frame.header.kind == Kind::kCast;
  options.root = options.is_call ? "call" : frame.header.kind == Kind::kAnswer ? "answer" : "message";
  frame.timings = worker::Timings(frame.header);
  const Decoded decoded = decode(bytes, options);
  frame.timings.add(worker::Timings::Part::kDecoding);
  let_go(frame);
  RB_GC_GUARD(self);
  if (decoded.value == Qundef) raise_failure(decoded.error, decoded.state);
  return decoded.value;
}

// --- Channel ---

struct Channel {
  Link* link;
  VALUE calls;
  VALUE messages;
  VALUE waiters;
};

void mark_channel(void* data) {
  const auto* const channel = static_cast<Channel*>(data);
  rb_gc_mark(channel->calls);
  rb_gc_mark(channel->messages);
  rb_gc_mark(channel->waiters);
}

const rb_data_type_t kChannelType = {"Typhon::Native::Channel",
                                     {mark_channel, RUBY_DEFAULT_FREE, nullptr, nullptr, {}},
                                     nullptr,
                                     nullptr,
                                     RUBY_TYPED_FREE_IMMEDIATELY};

Channel& channel_of(VALUE self) { return *static_cast<Channel*>(rb_check_typeddata(self, &kChannelType)); }
Link& link_of(VALUE self) { return *channel_of(self).link; }

// nullptr, and why in `error`. The Link lives for the rest of the process: its threads never end before.
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
  channel->calls = channel->messages = channel->waiters = Qnil;
  channel->calls = rb_ary_new();
  channel->messages = rb_ary_new();
  channel->waiters = rb_hash_new();
  char error[512] = "";
  channel->link = attach(numbers[0], numbers[1], numbers[2], error, sizeof error);
  if (channel->link == nullptr) rb_raise(rb_eIOError, "%s", error);
  return object;
}

VALUE channel_calls(VALUE self) { return channel_of(self).calls; }
VALUE channel_messages(VALUE self) { return channel_of(self).messages; }
VALUE channel_waiters(VALUE self) { return channel_of(self).waiters; }
VALUE channel_generation(VALUE self) { return ULL2NUM(link_of(self).generation()); }
VALUE channel_ends(VALUE self) { return link_of(self).ends() ? Qtrue : Qfalse; }
VALUE channel_broken(VALUE self) { return link_of(self).broken() ? Qtrue : Qfalse; }
VALUE channel_new_tag(VALUE self) { return ULL2NUM(link_of(self).new_tag()); }
VALUE channel_forked(VALUE) { return worker::in_forked_child() ? Qtrue : Qfalse; }
// After Process.setrlimit: what results lie in counts, too.
VALUE channel_limit_memory(VALUE self) {
  link_of(self).outbox().limit_memory(worker::address_space_allows);
  return Qnil;
}
VALUE channel_wake(VALUE self) {
  link_of(self).wake();
  return Qnil;
}
VALUE channel_cast_done(VALUE self) {
  link_of(self).header().casts_done.value.fetch_add(1, std::memory_order_release);
  return Qnil;
}

void route(Channel& channel, VALUE object, const Frame& frame) {
  switch (frame.header.kind) {
    case Kind::kAnswer: {
      const VALUE waiter = rb_hash_lookup2(channel.waiters, ULL2NUM(frame.header.id), Qnil);
      if (!NIL_P(waiter)) rb_ivar_set(waiter, names().answer, object);
      return;
    }
    case Kind::kMessage:
      rb_ary_push(channel.messages, object);
      return;
    case Kind::kCall:
    case Kind::kCast: {
      const VALUE waiter = frame.header.times[2] == 0
                               ? Qnil
                               : rb_hash_lookup2(channel.waiters, ULL2NUM(frame.header.times[2]), Qnil);
      const VALUE nested = NIL_P(waiter) ? Qnil : rb_ivar_get(waiter, names().nested);
      rb_ary_push(RB_TYPE_P(nested, T_ARRAY) ? nested : channel.calls, object);
      return;
    }
    default:
      rb_ary_push(channel.calls, object);
  }
}

// All frames that are there. Has no C++ objects that a lack of memory could leave behind.
bool pump(Channel& channel) {
  Link& link = *channel.link;
  bool any = false;
  FrameHeader header{};
  std::span<const std::uint8_t> in_ring;
  while (link.peek(header, in_ring)) {
    Frame* frame = nullptr;
    const VALUE object = TypedData_Make_Struct(names().frame, Frame, &kFrameType, frame);
    frame->header = header;
    frame->link = &link;
    // One byte at least: no memory is what nullptr says.
    auto* const copy = static_cast<std::uint8_t*>(std::malloc(in_ring.size() + 1));
    if (copy == nullptr) rb_memerror();
    if (!in_ring.empty()) std::memcpy(copy, in_ring.data(), in_ring.size());
    frame->body = copy;
    frame->size = in_ring.size();
    link.pop();
    route(channel, object, *frame);
    any = true;
  }
  return any;
}

struct Sleep {
  Link* link;
  std::uint64_t generation;
  std::int64_t limit_ns;
  std::atomic<bool> interrupted;
};

// take(generation, seconds | nil) -> whether something has come. False after the time, and after what may
// have been an interrupt, of which nothing is lost: the caller looks again.
VALUE channel_take(VALUE self, VALUE generation, VALUE seconds) {
  Channel& channel = channel_of(self);
  Link& link = *channel.link;
  const std::uint64_t seen = NUM2ULL(generation);
  constexpr double kLongest = 9e9;
  const std::int64_t limit =
      NIL_P(seconds) ? -1 : static_cast<std::int64_t>(std::clamp(NUM2DBL(seconds), 0.0, kLongest) * 1e9);
  if (worker::in_forked_child())
    rb_raise(rb_eRuntimeError,
             "this process was forked by a worker of Typhon: only the worker itself can talk to the BEAM");
  bool any = pump(channel);
  if (!any && link.generation() == seen && !link.ends() && !link.broken()) {
    link.outbox().ring_reader(false);
    if (!link.spin()) {
      Sleep sleep{&link, seen, limit, false};
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
            wait->link->wake();
          },
          &sleep);
    }
    any = pump(channel);
  }
  // Frames may be another thread's.
  if (any && RHASH_SIZE(channel.waiters) != 0) link.wake();
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
  header.id = frame.header.id;
  // One that was refused has not been decoded.
  if (frame.body != nullptr) frame.timings = worker::Timings::unserved(frame.header);
  frame.timings.add(worker::Timings::Part::kRunning);
  link.outbox().set_more_to_come(RARRAY_LEN(channel_of(self).calls) != 0 || !link.empty());
  const Encoded sent = link.outbox().send(
      header, value, options_for(objects, dialect, RTEST(failed) ? "error" : "result"), &frame.timings);
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
  const auto method = [](VALUE of, const char* name, auto* function, int arity) {
    // In parentheses: the macro of that name wants a constant.
    (rb_define_method)(of, name, RUBY_METHOD_FUNC(function), arity);
  };
  const VALUE frame = rb_define_class_under(native, "Frame", rb_cObject);
  names().frame = frame;
  rb_gc_register_mark_object(frame);
  rb_undef_alloc_func(frame);
  method(frame, "kind", frame_kind, 0);
  method(frame, "id", frame_id, 0);
  method(frame, "parent", frame_parent, 0);
  method(frame, "captured?", frame_captured, 0);
  method(frame, "failed?", frame_failed, 0);
  method(frame, "expired?", frame_expired, 0);
  method(frame, "claim?", frame_claim, 0);
  method(frame, "ids", frame_ids, 0);
  method(frame, "decode", frame_decode, 2);

  const VALUE channel = rb_define_class_under(native, "Channel", rb_cObject);
  rb_undef_alloc_func(channel);
  rb_define_singleton_method(channel, "attach", RUBY_METHOD_FUNC(channel_attach), 3);
  method(channel, "calls", channel_calls, 0);
  method(channel, "messages", channel_messages, 0);
  method(channel, "waiters", channel_waiters, 0);
  method(channel, "generation", channel_generation, 0);
  method(channel, "ends?", channel_ends, 0);
  method(channel, "broken?", channel_broken, 0);
  method(channel, "forked?", channel_forked, 0);
  method(channel, "new_tag", channel_new_tag, 0);
  method(channel, "limit_memory", channel_limit_memory, 0);
  method(channel, "wake", channel_wake, 0);
  method(channel, "cast_done", channel_cast_done, 0);
  method(channel, "take", channel_take, 2);
  method(channel, "commands", channel_commands, 0);
  method(channel, "reply", channel_reply, 5);
  method(channel, "send_frame", channel_send, 6);
}

}  // namespace typhon::ruby
