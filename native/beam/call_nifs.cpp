// NIFs of calls: making them, waiting for them, answering what Python asks.
#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "beam/body_sink.h"
#include "beam/decoder.h"
#include "beam/encoder.h"
#include "beam/moving.h"
#include "beam/nif_support.h"
#include "beam/nifs.h"
#include "beam/results.h"
#include "os/clock.h"

namespace typhon::beam::nifs {

namespace {

// What a normal scheduler may spend on one call: well below a millisecond.
constexpr std::size_t kQuickBytes = std::size_t{256} * 1024;
constexpr std::size_t kQuickTerms = 5'000;
// A plain reply of this size goes to the emulator's decoder at once, on a dirty scheduler.
constexpr std::size_t kPlainAtLeast = std::size_t{64} * 1024;

template <bool kDirty>
ERL_NIF_TERM call_here(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

bool get_deadline(ErlNifEnv* env, ERL_NIF_TERM timeout, const Atoms& atoms, std::uint64_t now,
                  std::uint64_t& deadline) noexcept {
  deadline = 0;
  if (timeout == atoms.infinity) return true;
  ErlNifUInt64 milliseconds = 0;
  if (!enif_get_uint64(env, timeout, &milliseconds) || milliseconds > 0xffff'ffffU) return false;
  deadline = now + milliseconds * 1'000'000;
  return true;
}

ERL_NIF_TERM cannot_encode(ErlNifEnv* env, const Atoms& atoms, const char* message) noexcept {
  return enif_make_tuple3(env, atoms.cannot_encode, make_binary(env, "args"), make_binary(env, message));
}

ERL_NIF_TERM look(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]);

// The caller goes to the end of its scheduler's queue, and looks for its reply when its turn comes: while
// many call at once that is cheaper than a message, for which it would have to be woken.
ERL_NIF_TERM next_turn(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) noexcept {
  enif_consume_timeslice(env, 100);
  return enif_schedule_nif(env, "look", 0, guarded<look>, argc, argv);
}

ERL_NIF_TERM time_left(ErlNifEnv* env, std::uint64_t deadline) noexcept {
  if (deadline == 0) return state_of(env).atoms.infinity;
  const std::uint64_t now = os::monotonic_ns();
  return enif_make_uint64(env, deadline > now ? (deadline - now + 999'999) / 1'000'000 : 0);
}

// What a caller gets of a wait: its answer, {:ask, Where, Id, Left, Ask}, {:wait, Where, Id, Left} or
// {:not_started, Left}. 0: it is to look once more.
ERL_NIF_TERM event(ErlNifEnv* env, const Outcome& outcome, ERL_NIF_TERM where) noexcept {
  const Atoms& atoms = state_of(env).atoms;
  switch (outcome.is) {
    case Outcome::Is::kReply:
    case Outcome::Is::kDown:
      return outcome.term;
    case Outcome::Is::kAsk:
      return enif_make_tuple5(env, atoms.ask, where, enif_make_uint64(env, outcome.id),
                              time_left(env, outcome.deadline), outcome.term);
    case Outcome::Is::kMessages:
      return enif_make_tuple4(env, atoms.wait, where, enif_make_uint64(env, outcome.id),
                              time_left(env, outcome.deadline));
    case Outcome::Is::kNotStarted:
      return enif_make_tuple2(env, atoms.not_started, time_left(env, outcome.deadline));
    default:
      return 0;
  }
}

// look(Pool, Where, Id, Ref): a turn of a caller that polls
ERL_NIF_TERM look(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return enif_make_tuple2(env, atoms.down, atoms.closed);
  const ERL_NIF_TERM seen = event(env, channel->look(env, id, argv[3]), argv[1]);
  return seen != 0 ? seen : next_turn(env, argc, argv);
}

}  // namespace

// next(Pool, Where, Id, Ref): the caller has dealt with one thing that it was asked or told
ERL_NIF_TERM next(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  // One that is closed has told everybody.
  const Outcome outcome =
      channel.get() ? channel->next(env, id, argv[3]) : Outcome{Outcome::Is::kMessages, id};
  return event(env, outcome, argv[1]);
}

namespace {

// The last argument of call(): Bits, or {Bits, Where, Parent}; the bits are wire.h's.
struct CallFlags {
  unsigned bits = 0;
  ERL_NIF_TERM where = 0;  // 0: not named
  ErlNifUInt64 parent = 0;
};

bool get_flags(ErlNifEnv* env, ERL_NIF_TERM term, CallFlags& flags) noexcept {
  if (enif_get_uint(env, term, &flags.bits)) [[likely]]
    return true;
  int arity = 0;
  const ERL_NIF_TERM* elements = nullptr;
  if (!enif_get_tuple(env, term, &arity, &elements) || arity != 3) return false;
  flags.where = elements[1];
  ErlNifUInt64 number = 0;
  return enif_get_uint(env, elements[0], &flags.bits) && enif_get_uint64(env, elements[2], &flags.parent) &&
         (enif_get_uint64(env, flags.where, &number) || get_channel(env, flags.where));
}

// Which atoms are written as text, if the flags of a call or an answer say so.
void say_text(Encoder& encoder, unsigned bits) noexcept {
  constexpr unsigned kMask = Encoder::kKeysAsText | Encoder::kValuesAsText;
  if ((bits & wire::kOwnText) != 0) encoder.text((bits >> wire::kTextShift) & kMask);
}

// Encodes a term into the sink, or says what the NIF is to return instead (to go on in a NIF on another
// scheduler: 0). `elsewhere(encoder)`: an object in the term lives on another worker; nullptr to begin again
// with what `channel` is then, or what is wrong with that. `awaited`: somebody waits for what becomes of it.
template <bool kDirty, class Encode, class Elsewhere, class GoDirty>
std::optional<ERL_NIF_TERM> encode_body(ErlNifEnv* env, const Kept<WorkerChannel>& channel, ERL_NIF_TERM ref,
                                        BodySink& sink, bool awaited, bool movable, Encode encode,
                                        Elsewhere elsewhere, GoDirty go_dirty) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  using Status = Encoder::Status;
  bool retried = false;
  for (;;) {
    sink.start(channel.get(), !awaited);
    Encoder encoder(env, state, channel.get(), sink);
    if (!kDirty) encoder.limit(kQuickTerms);
    const Status status = encode(encoder);
    if (status == Status::kDone) return std::nullopt;
    if (status == Status::kNeedsEncoder) return enif_make_tuple1(env, atoms.encoder);
    if (status == Status::kBadTerm) return cannot_encode(env, atoms, encoder.message());
    if (status == Status::kOtherChannel) {
      if (const char* wrong = elsewhere(encoder)) return cannot_encode(env, atoms, wrong);
      continue;
    }
    if (sink.over_limit() || status == Status::kOverBudget) return go_dirty();
    if (!sink.no_room()) return cannot_encode(env, atoms, encoder.message());
    ErlNifPid self;
    enif_self(env, &self);
    if (channel->wait_for_segments(self, ref, movable)) {
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, channel.get()));
    }
    // Nothing to wait for: room was made just now, or there will never be enough.
    if (!std::exchange(retried, true)) continue;
    return cannot_encode(env, atoms, "larger than what is free of the worker's request memory (arena_size)");
  }
}

// Hands over a request with the body that was encoded.
Outcome submit(ErlNifEnv* env, WorkerChannel& channel, Request& request, ERL_NIF_TERM ref, BodySink& sink) {
  request.env = env;
  enif_self(env, &request.caller);
  request.ref = ref;
  request.frame.body = {sink.data, sink.size};
  request.frame.segment_length = sink.size;
  request.frame.segment = sink.take();
  request.frame.loans = sink.loans();
  request.frame.lent_bytes = sink.bounded_bytes();
  const Outcome outcome = channel.submit(request);
  const bool accepted = outcome.is != Outcome::Is::kNoRoom && outcome.is != Outcome::Is::kDown &&
                        outcome.is != Outcome::Is::kElsewhere;
  if (accepted) sink.sent();
  // A call costs its caller reductions, or one that is always answered in the spin would never yield.
  enif_consume_timeslice(env, static_cast<int>(std::min<std::size_t>(1 + sink.size / 4096, 100)));
  return outcome;
}

// A call that waits behind others may have to go to another worker.
void note_queue(const State& state, Pool& pool, const WorkerChannel& channel) noexcept {
  if (channel.weight() > pool.concurrency() && pool.note_queue()) state.mover->wake();
}

// Where a call goes.
struct Target {
  Kept<WorkerChannel> channel{nullptr};
  std::size_t place = 0;
  bool of_object = false;  // an object in it lives there: there is no other worker that could have it

  void take(Pool& pool, WorkerChannel* kept) noexcept {
    channel.reset(kept);
    place = pool.place_of(kept);
  }
};

// The channel of an object that stands in the module's place; a reference is kept for the caller.
WorkerChannel* channel_of_object(ErlNifEnv* env, const State& state, ERL_NIF_TERM module) noexcept {
  ERL_NIF_TERM ref = 0;
  if (!enif_is_map(env, module) || !enif_get_map_value(env, module, state.atoms.ref, &ref)) return nullptr;
  const auto* object = get_resource<ObjectHandle>(env, ref, state.object_type);
  if (!object) return nullptr;
  enif_keep_resource(object->channel);
  return object->channel;
}

// One that has to go to this worker waits for it, if it may.
std::optional<ERL_NIF_TERM> admit(ErlNifEnv* env, Pool& pool, const CallFlags& flags, const Target& target) {
  if (target.place == Pool::kNoPlace || (flags.bits & wire::kAdmitted) != 0) return std::nullopt;
  const Pool::Pressure pressure = pool.pressure_at(*target.channel.get());
  if (pressure.none_free && pool.refuses(pressure)) return overload(env, pool, pressure);
  return std::nullopt;
}

// Session or object, key, or the least loaded worker; or what call() returns instead.
std::optional<ERL_NIF_TERM> find_target(ErlNifEnv* env, Pool& pool, const CallFlags& flags,
                                        ERL_NIF_TERM module, Request& request, Target& target) {
  const State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  if (flags.where != 0) {
    target.channel = find_channel(env, &pool, flags.where);
    if (!target.channel.get() || target.channel->closed())
      return enif_make_tuple2(env, atoms.down, atoms.gone);
    target.place = pool.place_of(target.channel.get());
    return std::nullopt;
  }
  if (WorkerChannel* channel = channel_of_object(env, state, module)) {
    target.take(pool, channel);
    target.of_object = true;
    return admit(env, pool, flags, target);
  }
  Pool::Pressure pressure;
  const unsigned key = flags.bits >> wire::kPlaceBit;
  target.channel.reset(pool.pick(key, request.frame.now, target.place, pressure));
  const bool found = target.channel.get() != nullptr;
  if (!found && key != 0) return enif_make_tuple2(env, atoms.held, enif_make_uint64(env, target.place));
  if (pressure.none_free) {
    tell_watcher(env, pool);
    if (found && (flags.bits & wire::kAdmitted) == 0 && pool.refuses(pressure))
      return overload(env, pool, pressure);
  }
  if (!found) return atoms.no_worker;
  request.was_idle = pressure.idle;
  // Its caller, and no object in it, says where it is to run.
  request.movable =
      request.frame.kind == channel::Kind::kCall && key == 0 && !target.channel->raw() && pool.size() > 1;
  return std::nullopt;
}

// What call() returns when it was handed over; nothing: it is to be made again.
std::optional<ERL_NIF_TERM> handed_over(ErlNifEnv* env, const ERL_NIF_TERM argv[], const CallFlags& flags,
                                        const Target& target, const Request& request,
                                        const Outcome& outcome) {
  const Atoms& atoms = state_of(env).atoms;
  switch (outcome.is) {
    case Outcome::Is::kReply:
      return outcome.term;
    case Outcome::Is::kDown:
      // The channel was closed after it was picked: the worker has not seen the request, another one may. A
      // call that names its worker has no other.
      if (target.of_object) return enif_make_tuple2(env, atoms.gone, outcome.term);
      if (flags.where == 0 && !target.channel->raw())
        return enif_make_tuple2(env, atoms.not_started, time_left(env, request.frame.deadline));
      return outcome.term;
    case Outcome::Is::kLook: {
      const ERL_NIF_TERM turn[] = {argv[0], where(env, target.channel.get(), target.place),
                                   enif_make_uint64(env, outcome.id), argv[1]};
      return next_turn(env, std::size(turn), turn);
    }
    case Outcome::Is::kMessages:
      return enif_make_tuple4(env, atoms.wait, where(env, target.channel.get(), target.place),
                              enif_make_uint64(env, outcome.id), argv[7]);
    case Outcome::Is::kAccepted:
      return atoms.ok;
    case Outcome::Is::kNoRoom:
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, target.channel.get()));
    case Outcome::Is::kElsewhere:
      // Only the worker of an object has nobody to stand in for it.
      if (!target.of_object) return std::nullopt;
      return enif_make_tuple2(env, atoms.held, enif_make_uint64(env, target.place));
    default:
      return event(env, outcome, where(env, target.channel.get(), target.place));
  }
}

template <bool kDirty>
ERL_NIF_TERM call_here(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  Pool* pool = get_pool(env, argv[0]);
  unsigned kind = 0;
  CallFlags flags;
  Request request{};
  request.frame.now = os::monotonic_ns();
  if (!pool || !enif_is_ref(env, argv[1]) || !enif_get_uint(env, argv[2], &kind) || kind > wire::kCast ||
      !get_deadline(env, argv[7], state.atoms, request.frame.now, request.frame.deadline) ||
      !get_flags(env, argv[8], flags)) {
    return enif_make_badarg(env);
  }
  request.frame.kind = kind == wire::kCall ? channel::Kind::kCall : channel::Kind::kCast;
  Target target;
  if (const auto instead = find_target(env, *pool, flags, argv[3], request, target)) return *instead;

  std::array<std::uint8_t, WorkerChannel::kMaxInline> stack;  // uninitialised on purpose
  BodySink sink(stack.data(), stack.size(), kDirty ? SIZE_MAX : kQuickBytes);
  bool moved = false;
  std::optional<ERL_NIF_TERM> instead = encode_body<kDirty>(
      env, target.channel, argv[1], sink, kind == wire::kCall, request.movable,
      [&](Encoder& encoder) {
        say_text(encoder, flags.bits);
        const Encoder::Status status = encoder.call(argv[3], argv[4], argv[5], argv[6]);
        if (encoder.has_objects()) request.movable = false;
        return status;
      },
      // An object among the arguments, which only the encoder sees.
      [&](Encoder& encoder) -> const char* {
        if (target.of_object) return "objects that live on different workers";
        if (!pool->has(encoder.other()))
          return "an object of another pool, which has its own Python: make the call in that pool, or "
                 "send what Typhon.to_term/1 gives of it";
        enif_keep_resource(encoder.other());
        target.take(*pool, encoder.other());
        target.of_object = moved = true;
        request.was_idle = false;
        return nullptr;
      },
      [&] {
        return enif_schedule_nif(env, "call", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<call_here<true>>, argc,
                                 argv);
      });
  if (!instead && moved) instead = admit(env, *pool, flags, target);
  if (instead) return *instead;

  request.frame.timings = (flags.bits & wire::kTimings) != 0;
  request.frame.parent = flags.parent;
  request.frame.captures = (flags.bits & wire::kCapture) != 0;
  request.frame.as_object = (flags.bits & wire::kAsObject) != 0;
  request.frame.of_object = enif_is_map(env, argv[3]) != 0;
  request.admitted = (flags.bits & wire::kAdmitted) != 0;
  // An object of another pool: there is nobody here to wait for that worker with.
  request.named = (flags.where != 0 && !target.of_object) || target.place == Pool::kNoPlace;
  const Outcome outcome = submit(env, *target.channel.get(), request, argv[1], sink);
  if (request.movable && outcome.is != Outcome::Is::kReply) note_queue(state, *pool, *target.channel.get());
  if (const auto result = handed_over(env, argv, flags, target, request, outcome)) [[likely]]
    return *result;
  return enif_schedule_nif(env, "call", kDirty ? ERL_NIF_DIRTY_JOB_CPU_BOUND : 0, guarded<call_here<kDirty>>,
                           argc, argv);
}

// tell(Pool | nil, Where, Id, Ref, Kind, Tag, Term): an answer to what Python asked, or a message for it.
// Kind: as wire.h names them, and the bits of text that call() has. Id: the call whose caller
// answers, and looks for what comes next; 0 for none.
template <bool kDirty>
ERL_NIF_TERM tell_here(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  const Atoms& atoms = state.atoms;
  Pool* pool = get_pool(env, argv[0]);
  unsigned bits = 0;
  ErlNifUInt64 id = 0;
  ErlNifUInt64 tag = 0;
  constexpr unsigned kMost = (wire::kOwnText << 1) - 1;
  if (!enif_get_uint64(env, argv[2], &id) || !enif_is_ref(env, argv[3]) ||
      !enif_get_uint(env, argv[4], &bits) || bits > kMost || (bits & wire::kTellKinds) == wire::kTellKinds ||
      !enif_get_uint64(env, argv[5], &tag)) {
    return enif_make_badarg(env);
  }
  const unsigned kind = bits & wire::kTellKinds;
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return enif_make_tuple2(env, atoms.down, atoms.closed);
  std::array<std::uint8_t, WorkerChannel::kMaxInline> stack;  // uninitialised on purpose
  BodySink sink(stack.data(), stack.size(), kDirty ? SIZE_MAX : kQuickBytes);
  const std::optional<ERL_NIF_TERM> instead = encode_body<kDirty>(
      env, channel, argv[3], sink, kind != wire::kMessage, false,
      [&](Encoder& encoder) {
        say_text(encoder, bits);
        return encoder.value(argv[6]);
      },
      [](Encoder&) { return "an object that lives on another worker"; },
      [&] {
        return enif_schedule_nif(env, "tell", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<tell_here<true>>, argc,
                                 argv);
      });
  if (instead) return *instead;
  Request request{};
  request.frame.now = os::monotonic_ns();
  request.frame.kind = kind == wire::kMessage ? channel::Kind::kMessage : channel::Kind::kAnswer;
  request.named = true;  // it is for this worker, also when a session has it
  request.frame.id = tag;
  request.frame.failed = kind == wire::kFailure;
  request.call = id;
  const Outcome outcome = submit(env, *channel.get(), request, argv[3], sink);
  switch (outcome.is) {
    case Outcome::Is::kAccepted:
      return atoms.ok;
    case Outcome::Is::kNoRoom:
      return enif_make_tuple2(env, atoms.room, enif_make_resource(env, channel.get()));
    default:
      return event(env, outcome, argv[1]);
  }
}

}  // namespace

ERL_NIF_TERM cancel(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const Atoms& atoms = state_of(env).atoms;
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get()) return atoms.delivered;
  const Outcome outcome = channel->cancel(env, id);
  switch (outcome.is) {
    case Outcome::Is::kReply:
      return enif_make_tuple2(env, atoms.delivered, outcome.term);
    case Outcome::Is::kMessages:
      return atoms.delivered;
    case Outcome::Is::kNotStarted:
      return atoms.not_started;
    default:
      return atoms.cancelled;
  }
}

// importing(Pool, Where, Id): for this call.
ERL_NIF_TERM call_importing(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  Pool* pool = get_pool(env, argv[0]);
  ErlNifUInt64 id = 0;
  if (!pool || !enif_get_uint64(env, argv[2], &id)) return enif_make_badarg(env);
  const Kept<WorkerChannel> channel = find_channel(env, pool, argv[1]);
  if (!channel.get() || !channel->imports_for(id)) return state_of(env).atoms.nil;
  return imported(env, channel->imports().name_for(id));
}

// hold(ObjectRef, Boolean)
ERL_NIF_TERM hold(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const State& state = state_of(env);
  auto* handle = get_resource<ObjectHandle>(env, argv[0], state.object_type);
  bool wanted = false;
  if (!handle || !get_boolean(state.atoms, argv[1], wanted)) return enif_make_badarg(env);
  if (handle->held.exchange(wanted, std::memory_order_relaxed) != wanted) {
    wanted ? handle->channel->hold() : handle->channel->let_go();
  }
  return state.atoms.ok;
}

// same_worker?(ObjectRef, ObjectRef)
ERL_NIF_TERM same_worker(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  const State& state = state_of(env);
  const auto* one = get_resource<ObjectHandle>(env, argv[0], state.object_type);
  const auto* other = get_resource<ObjectHandle>(env, argv[1], state.object_type);
  if (!one || !other) return enif_make_badarg(env);
  return one->channel == other->channel ? state.atoms.true_ : state.atoms.false_;
}

ERL_NIF_TERM cancel_room(ErlNifEnv* env, int, const ERL_NIF_TERM argv[]) {
  WorkerChannel* channel = get_channel(env, argv[0]);
  if (!channel || !enif_is_ref(env, argv[1])) return enif_make_badarg(env);
  channel->stop_waiting_for_room(argv[1]);
  return state_of(env).atoms.ok;
}

namespace {

template <bool kDirty>
ERL_NIF_TERM decode_here(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  State& state = state_of(env);
  auto* segment = get_resource<SegmentHandle>(env, argv[0], state.segment_type);
  if (!segment) return enif_make_badarg(env);
  if (segment->decoded.load(std::memory_order_acquire)) return enif_make_badarg(env);
  const auto go_dirty = [&] {
    return enif_schedule_nif(env, "decode", ERL_NIF_DIRTY_JOB_CPU_BOUND, guarded<decode_here<true>>, argc,
                             argv);
  };
  WorkerChannel& channel = *segment->channel;
  const std::size_t size = segment->body.size();
  const bool plain = segment->plain && size >= kPlainAtLeast && !channel.handed();
  // Handles are not to be made a second time when the first attempt has taken too long.
  if (!kDirty && (plain || (segment->has_objects && size > kQuickTerms))) return go_dirty();
  using Refusal = WorkerChannel::Refusal;
  if (const Refusal refusal = channel.take_in(*segment, kDirty); refusal != Refusal::kNone) {
    if (refusal == Refusal::kTakesTime) return go_dirty();
    const bool full = refusal == Refusal::kHeld || refusal == Refusal::kHeldByAll;
    if (full && !std::exchange(segment->collected, true)) return state.atoms.held;
    const ERL_NIF_TERM reply = channel.refuse_segment(env, env, *segment, refusal);
    return segment->timed ? timed_term(env, state.atoms, reply, segment->times) : reply;
  }
  Decoder decoder(env, channel);
  decoder.lend(segment);
  decoder.borrow(segment->loans);
  if (!kDirty) decoder.limit(kQuickTerms, kQuickBytes);
  const ERL_NIF_TERM reply = plain ? decoder.decode_plain_reply(*segment) : decoder.decode_reply(*segment);
  if (!kDirty && decoder.over_budget()) return go_dirty();
  channel.done_with(*segment);
  return segment->timed ? timed_term(env, state.atoms, reply, segment->times) : reply;
}

}  // namespace

ERL_NIF_TERM call(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  return call_here<false>(env, argc, argv);
}

ERL_NIF_TERM tell(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  return tell_here<false>(env, argc, argv);
}

ERL_NIF_TERM decode(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  return decode_here<false>(env, argc, argv);
}

}  // namespace typhon::beam::nifs
