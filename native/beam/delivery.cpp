// WorkerChannel: from the reply ring to whom it is for, by the holder of the reader role.
#include "beam/worker_channel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "beam/decoder.h"
#include "beam/handed.h"
#include "etf/cost.h"
#include "os/clock.h"
#include "os/wait.h"

namespace typhon::beam {

using channel::FrameHeader;
using channel::Kind;
using channel::RingConsumer;
using channel::SegmentRef;
using os::monotonic_ns;

namespace {

// So much weight of messages is delivered before the owner is asked to look whether they are taken.
constexpr std::uint32_t kSendsAtOnce = 256;
// What Python may have asked or told one caller that it has not looked at.
constexpr std::uint32_t kMostUnheard = 16'384;
constexpr const char* kTooMuch =
    "the worker asks or tells more than its quota allows, and does not wait until it has been heard";
}  // namespace

void WorkerChannel::leave_role(std::uint32_t found) noexcept {
  role_.leave(found);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  wake_worker_for_room();
  if ((found != channel::kPolled && replies_pending()) || life_.closed.load(std::memory_order_relaxed) ||
      life_.stopping.load(std::memory_order_relaxed)) {
    channel::wake_from(region_->header().reader_word.value, found);
  }
}

void WorkerChannel::wake_worker_for_room() noexcept {
  auto& room = region_->header().reply_room.value;
  if (room.load(std::memory_order_relaxed) != 0 && room.exchange(0, std::memory_order_acq_rel) != 0) {
    os::wake_word(room, 1);
  }
}

std::uint64_t WorkerChannel::requests_pending() const noexcept {
  const channel::Header& header = region_->header();
  return header.request_tail.value.load(std::memory_order_relaxed) -
         header.request_head.value.load(std::memory_order_acquire);
}

std::uint64_t WorkerChannel::replies_pending() const noexcept {
  const channel::Header& header = region_->header();
  return header.reply_tail.value.load(std::memory_order_acquire) -
         header.reply_head.value.load(std::memory_order_relaxed);
}

WorkerChannel::Drained WorkerChannel::drain(ErlNifEnv* caller_env, Looker* looker) noexcept {
  Drained drained = Drained::kNothing;
  if (life_.broken.load(std::memory_order_relaxed)) return drained;
  std::array<Delivery, kDeliverAtOnce> batch;  // uninitialised on purpose
  std::size_t gathered = 0;
  const auto deliver_gathered = [&] {
    if (deliver(caller_env, {batch.data(), gathered}, looker)) drained = Drained::kMine;
    gathered = 0;
  };
  std::uint32_t taken = 0;
  for (; taken < kDrainBatch; ++taken) {
    Delivery& next = batch[gathered];
    const RingConsumer::State state = replies_.ring.peek(next.header, next.body);
    if (state == RingConsumer::State::kEmpty) break;
    if (state == RingConsumer::State::kBroken) {
      life_.broken.store(true, std::memory_order_relaxed);
      fail_broken(caller_env, "the worker wrote a frame that breaks the protocol");
      break;
    }
    if (drained == Drained::kNothing) drained = Drained::kSome;
    const Kind kind = next.header.kind;
    if (kind == Kind::kReply || kind == Kind::kError) {
      replies_.ring.skip();
      if (++gathered == batch.size()) deliver_gathered();
    } else if (kind == Kind::kAsk) {
      const FrameHeader header = next.header;
      const std::span<const std::uint8_t> body = next.body;
      deliver_gathered();  // in the order in which they were sent
      if (deliver_ask(caller_env, header, body, looker)) {
        drained = Drained::kAsked;
        looker = nullptr;  // what follows lies in its slot
      }
      replies_.ring.skip();
    } else if (kind == Kind::kSend) {
      // A large one takes its time, and what follows must not overtake it: it is left to the reader.
      if (caller_env && (next.header.flags & channel::kInSegment) != 0) break;
      deliver_message(caller_env, next.header, next.body);
      replies_.ring.skip();
    } else if (kind == Kind::kReady) {
      handle_ready(caller_env, next.body);
      replies_.ring.skip();
    } else {
      life_.broken.store(true, std::memory_order_relaxed);
      fail_broken(caller_env, "the worker sent a frame of an unknown kind");
      break;
    }
  }
  if (gathered != 0) deliver_gathered();
  replies_.ring.publish();
  load_.replies.store(load_.replies.load(std::memory_order_relaxed) + taken, std::memory_order_relaxed);
  return drained;
}

// Whose each of them is. How many calls have ended.
std::uint32_t WorkerChannel::assign(std::span<Delivery> replies, const Looker* looker) noexcept {
  std::uint32_t ended = 0;
  for (Delivery& next : replies) {
    next.slot = nullptr;
    next.wanted = false;
    next.kept = false;
    const std::uint32_t index = slots_.find(next.header.id);
    if (index == Slots::kNone) continue;
    Slot& slot = slots_[index];
    // A second answer to one call: the worker is not to be trusted, and nobody waits for it.
    if (slot.state == Slot::State::kDelivering || slot.ended != Slot::Ended::kNot) continue;
    ++ended;
    next.slot = &slot;
    next.submitted = slot.submitted;
    if (slot.state == Slot::State::kLooks && !(looker && next.header.id == looker->id)) {
      slot.ended = Slot::Ended::kReply;
      slot.reply = next.header;
      slot.reply_body.assign(next.body.begin(), next.body.end());
      next.kept = true;
    } else {
      next.wanted = slot.state == Slot::State::kWaits;
      slot.state = Slot::State::kDelivering;
    }
  }
  return ended;
}

// True when the looker's reply was among them.
bool WorkerChannel::deliver(ErlNifEnv* caller_env, std::span<Delivery> replies, Looker* looker) noexcept {
  std::uint32_t ended = 0;
  bool reached = false;
  {
    Lock lock(mutex_);
    ended = assign(replies, looker);
    // Before anybody has his answer: his next call must find the worker as free as it is.
    load_.in_flight.fetch_sub(ended, std::memory_order_relaxed);
    reached = count_served(ended);
  }
  bool found_mine = false;
  for (const Delivery& next : replies) {
    if (looker && next.header.id == looker->id && next.slot) {
      looker->term = reply_term(caller_env, next.header, next.body);
      found_mine = true;
    } else if (next.slot && next.wanted) {
      // The slot's environment holds the reference already, and becomes the message.
      Slot& slot = *next.slot;
      const ERL_NIF_TERM term = reply_term(slot.env, next.header, next.body);
      enif_send(caller_env, &slot.caller, slot.env, enif_make_tuple2(slot.env, slot.ref, term));
    } else if (!next.kept) {
      drop_reply(replies_.env.get(), next.header, next.body);
    }
  }
  const std::uint64_t now = monotonic_ns();
  if (ended != 0) note_answers(now);
  std::uint64_t took = 0;
  {
    Lock lock(mutex_);
    for (const Delivery& next : replies) {
      if (!next.slot) continue;
      took = now - next.submitted;
      if (!next.kept) {  // else its slot may be somebody else's by now
        free_slot(caller_env, static_cast<std::uint32_t>(next.header.id));
      }
    }
  }
  if (reached) tell_served(caller_env);
  if (!found_mine && ended != 0) patience_.call_missed(took);
  patience_.count_replies(ended, now);
  return found_mine;
}

// {:ask, tag, {:ok, term} | {:segment, handle} | {:error, reason}}
ERL_NIF_TERM WorkerChannel::ask_term(ErlNifEnv* env, const FrameHeader& header,
                                     std::span<const std::uint8_t> body) noexcept {
  FrameHeader plain = header;
  plain.flags &= static_cast<std::uint8_t>(~channel::kTimings);
  return enif_make_tuple3(env, state_.atoms.ask, enif_make_uint64(env, header.times[0]),
                          reply_term(env, plain, body));
}

// It goes to the caller that drains: true, and to nobody else, when the call is still there.
bool WorkerChannel::ask_looker(ErlNifEnv* env, Slot& slot, ERL_NIF_TERM term, Looker& looker) noexcept {
  if (!slot.looks() || !slots_.watch(env, slot, looker.ref)) return false;
  slot.polls = false;  // whoever drains counts it off
  ++slot.unheard;
  looker.term = term;
  looker.deadline = slot.deadline;
  return true;
}

// It goes to another caller: into its slot, which takes it over, or as a message. That is sent under the
// mutex: one who gives up finds in its mailbox all that it will ever be asked.
bool WorkerChannel::ask_other(ErlNifEnv* caller_env, Slot& slot, Ask& ask) noexcept {
  if (slot.state != Slot::State::kWaits && !slot.looks()) return false;
  ++slot.unheard;
  if (slot.state == Slot::State::kWaits) {
    ask.send(caller_env, slot.caller, slot.ref);
  } else {
    slot.asks.push_back(std::move(ask));
  }
  return true;
}

// True when it went to the looker.
bool WorkerChannel::deliver_ask(ErlNifEnv* caller_env, const FrameHeader& header,
                                std::span<const std::uint8_t> body, Looker* looker) noexcept {
  if (life_.broken.load(std::memory_order_relaxed)) {
    drop_reply(replies_.env.get(), header, body);
    return false;
  }
  const bool is_lookers = looker && header.id == looker->id;
  Ask ask{is_lookers ? nullptr : std::make_unique<OwnedEnv>(), 0};
  ask.term = ask_term(is_lookers ? caller_env : ask.env->get(), header, body);
  const bool statement = header.times[0] == 0;
  if (!statement) patience_.question_came();
  const std::uint32_t weight = statement ? channel::statement_weight(header, body) : 1;
  bool too_much = false;
  bool asked = false;
  {
    Lock lock(mutex_);
    const std::uint32_t index = header.id == 0 ? Slots::kNone : slots_.find(header.id);
    if (index != Slots::kNone) {
      Slot& slot = slots_[index];
      too_much = slot.unheard >= kMostUnheard;
      asked = !too_much && (is_lookers ? ask_looker(caller_env, slot, ask.term, *looker)
                                       : ask_other(caller_env, slot, ask));
    }
  }
  if (asked) {
    if (statement) tell_heard(weight);
    return is_lookers;
  }
  if (is_lookers) {
    ask.env = std::make_unique<OwnedEnv>();
    ask.term = enif_make_copy(ask.env->get(), ask.term);
  }
  if (too_much) {
    flooded(caller_env);
  } else {
    ask_owner(caller_env, header, ask, statement, weight);
  }
  return false;
}

// Nobody waits for it: a cast, a thread of Python's own, a caller that has given up. Who asks in the name of
// that one is only told so.
void WorkerChannel::ask_owner(ErlNifEnv* caller_env, const FrameHeader& header, const Ask& ask,
                              bool statement, std::uint32_t weight) noexcept {
  const bool given_up = !statement && header.id != 0;
  const Quota::Of of = statement  ? Quota::Of::kStatement
                       : given_up ? Quota::Of::kRefusal
                                  : Quota::Of::kQuestion;
  if (!owes(caller_env, of, weight)) return;
  const OwnedEnv refusal;
  ErlNifEnv* env = given_up ? refusal.get() : ask.env->get();
  const ERL_NIF_TERM term =
      given_up
          ? enif_make_tuple3(env, state_.atoms.ask, enif_make_uint64(env, header.times[0]), state_.atoms.nil)
          : ask.term;
  const ERL_NIF_TERM asked = enif_make_tuple2(env, enif_make_uint64(env, header.id), term);
  const ERL_NIF_TERM heavy = enif_make_tuple3(env, state_.atoms.heavy, enif_make_uint(env, weight), asked);
  send_owner(caller_env, env, weight == 1 ? asked : heavy);
}

// False: it is one too many, and the channel is closed.
bool WorkerChannel::owes(ErlNifEnv* caller_env, Quota::Of of, std::uint32_t weight) noexcept {
  if (quota_.add(of, weight)) return true;
  flooded(caller_env);
  return false;
}

void WorkerChannel::flooded(ErlNifEnv* caller_env) noexcept {
  life_.broken.store(true, std::memory_order_relaxed);
  fail(caller_env, state_.atoms.flood, kTooMuch);
}

void WorkerChannel::dealt_with(Quota::Of of, std::uint32_t count) noexcept {
  quota_.dealt_with(of, count);
  if (of == Quota::Of::kStatement) tell_heard(count);
}

void WorkerChannel::tell_heard(std::uint32_t count) noexcept {
  channel::Header& header = region_->header();
  header.heard.value.fetch_add(count, std::memory_order_acq_rel);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  auto& room = header.heard_room.value;
  if (room.load(std::memory_order_relaxed) != 0 && room.exchange(0, std::memory_order_acq_rel) != 0)
    os::wake_word(room, INT32_MAX);
}

// 0: it is for a scheduler to decode.
ERL_NIF_TERM WorkerChannel::decode_segment(ErlNifEnv* caller_env, ErlNifEnv* env,
                                           SegmentHandle& segment) noexcept {
  if (const Refusal refusal = take_in(segment); refusal != Refusal::kNone)
    return refuse_segment(caller_env, env, segment, refusal);
  Decoder decoder(env, *this);
  decoder.lend(&segment);
  decoder.borrow(segment.loans);
  const bool plain = segment.plain && on_scheduler() && !options_.handed;
  const ERL_NIF_TERM reply = plain ? decoder.decode_plain_reply(segment) : decoder.decode_reply(segment);
  if (decoder.needs_scheduler()) return 0;
  done_with(segment);
  return reply;
}

// Whether Python may send to it: with an allow list, what it was handed.
bool WorkerChannel::may_reach(ErlNifEnv* env, ERL_NIF_TERM destination) noexcept {
  return !options_.handed || options_.handed->contains(handed_key(env, destination));
}

bool WorkerChannel::may_say(ErlNifEnv* env, ERL_NIF_TERM message) noexcept {
  return !options_.handed || options_.handed->may_say(env, message);
}

// What Python sends to its own pid is for its mailbox alone: the owner is to act upon none of it. False: it
// is another's pid. Takes what `env` holds.
bool WorkerChannel::post(ErlNifEnv* caller_env, ErlNifEnv* env, const ErlNifPid& to,
                         ERL_NIF_TERM message) noexcept {
  if (!is_owner(to)) return false;
  send_owner(caller_env, env, enif_make_tuple2(env, state_.atoms.post, message));
  return true;
}

// The owner looks after those to whom much is sent. Which one of some hundred messages it looks at is drawn.
void WorkerChannel::count_sent(ErlNifEnv* caller_env, const ErlNifPid& to, std::uint32_t weight) noexcept {
  ++replies_.sent;
  replies_.sent_weight += weight;
  replies_.draw ^= replies_.draw << 13;
  replies_.draw ^= replies_.draw >> 7;
  replies_.draw ^= replies_.draw << 17;
  if (replies_.draw % replies_.sent == 0) replies_.drawn = to;
  if (replies_.sent_weight < kSendsAtOnce) return;
  OwnedEnv message;
  ErlNifEnv* env = message.get();
  send_owner(caller_env, env,
             enif_make_tuple4(env, state_.atoms.sent, enif_make_pid(env, &replies_.drawn),
                              enif_make_uint(env, replies_.sent), enif_make_uint(env, replies_.sent_weight)));
  replies_.sent = replies_.sent_weight = 0;
}

// {Pid, Message}. A process that is gone gets nothing, as ever.
void WorkerChannel::deliver_message(ErlNifEnv* caller_env, const FrameHeader& header,
                                    std::span<const std::uint8_t> body) noexcept {
  const std::uint32_t weight = channel::statement_weight(header, body);
  if (life_.broken.load(std::memory_order_relaxed) || !owes(caller_env, Quota::Of::kStatement, weight)) {
    drop_reply(replies_.env.get(), header, body);
    return;
  }
  OwnedEnv message;
  ErlNifEnv* env = message.get();
  ERL_NIF_TERM term = reply_term(env, header, body);
  int arity = 0;
  const ERL_NIF_TERM* ok = nullptr;
  const ERL_NIF_TERM* pair = nullptr;
  void* object = nullptr;
  if (enif_get_tuple(env, term, &arity, &ok) && ok[0] == state_.atoms.segment &&
      enif_get_resource(env, ok[1], state_.segment_type, &object)) {
    const ERL_NIF_TERM decoded = decode_segment(caller_env, env, *static_cast<SegmentHandle*>(object));
    if (decoded != 0) term = decoded;  // else it is for the owner to decode
  }
  ErlNifPid to;
  if (enif_get_tuple(env, term, &arity, &ok) && arity == 2 && ok[0] == state_.atoms.ok &&
      enif_get_tuple(env, ok[1], &arity, &pair) && arity == 2) {
    if (!may_reach(env, pair[0])) {
      term = enif_make_tuple2(env, state_.atoms.error, state_.atoms.not_allowed);
    } else if (enif_get_local_pid(env, pair[0], &to)) {
      if (post(caller_env, env, to, pair[1])) {
        count_sent(caller_env, to, weight);
        return;
      }
      if (may_say(env, pair[1])) {
        enif_send(caller_env, &to, env, pair[1]);
        count_sent(caller_env, to, weight);
        return;
      }
      term = enif_make_tuple2(env, state_.atoms.error, state_.atoms.control);
    }
  }
  // One for another node, or one that cannot be decoded, or not here, or that may not be sent.
  send_owner(caller_env, env, enif_make_tuple3(env, state_.atoms.send, term, enif_make_uint(env, weight)));
}

// A reply that nobody waits for is still looked at: it may hold a segment, or handles of objects.
void WorkerChannel::drop_reply(ErlNifEnv* env, const FrameHeader& header,
                               std::span<const std::uint8_t> body) noexcept {
  if ((header.flags & channel::kInSegment) != 0) {
    reply_term(env, header, body);  // goes with the environment: forget_segment()
  } else {
    channel::FrameLoans loans = loans_of(header, body);
    if ((header.flags & channel::kHasObjects) != 0) drop_objects(env, body, loans);
  }
  enif_clear_env(env);
}

// The handles become garbage of `env` at once; their destructors send the releases.
void WorkerChannel::drop_objects(ErlNifEnv* env, std::span<const std::uint8_t> body,
                                 channel::FrameLoans& loans) noexcept {
  Decoder decoder(env, *this);
  decoder.borrow(loans);
  decoder.want_objects_only();
  decoder.decode(body);
}

void WorkerChannel::forget_segment(SegmentHandle& segment) noexcept {
  const bool undecoded = !segment.decoded.load(std::memory_order_acquire);
  if (segment.has_objects && undecoded && take_in(segment) == Refusal::kNone) {
    ErlNifEnv* const env = enif_alloc_env();
    drop_objects(env, segment.body, segment.loans);
    enif_free_env(env);
  }
  if (segment.pinned.load(std::memory_order_relaxed)) shared_.pinned.remove(segment.body.size());
  if (segment.copy) enif_release_resource(std::exchange(segment.copy, nullptr));
  release_segment(segment);
}

ERL_NIF_TERM WorkerChannel::reply_term(ErlNifEnv* env, const FrameHeader& header,
                                       std::span<const std::uint8_t> body) noexcept {
  const Atoms& atoms = state_.atoms;
  const bool is_error = header.kind == Kind::kError;
  const bool timed = (header.flags & channel::kTimings) != 0;
  channel::FrameLoans loans = loans_of(header, body);
  if ((header.flags & channel::kInSegment) != 0) {
    SegmentRef ref{};
    if (body.size() == sizeof ref) {
      std::memcpy(&ref, body.data(), sizeof ref);
      if (const auto view = shared_.replies.view(ref)) {
        return enif_make_tuple2(env, atoms.segment,
                                make_segment(env, header, ref, *view, std::move(loans), {}));
      }
    }
    const ERL_NIF_TERM bad = enif_make_tuple2(
        env, atoms.bad_frame, make_binary(env, "the worker named a segment outside of its arena"));
    return enif_make_tuple2(env, atoms.error, bad);
  }
  // What it can become is bounded by whoever decodes the copy, and on a scheduler that has time for it.
  const bool costly = etf::most_it_can_cost(body) > std::min(Decoder::kDirectly, max_result());
  Decoder decoder(env, *this);
  decoder.borrow(loans);
  ERL_NIF_TERM reply = costly ? 0 : decoder.decode_reply(body, is_error);
  if (costly || decoder.needs_scheduler()) [[unlikely]] {
    std::vector<std::uint8_t> own(body.begin(), body.end());
    return enif_make_tuple2(env, atoms.segment,
                            make_segment(env, header, {}, {}, std::move(loans), std::move(own)));
  }
  return timed ? timed_term(env, atoms, reply, header.times) : reply;
}

ERL_NIF_TERM WorkerChannel::make_segment(ErlNifEnv* env, const FrameHeader& header, const SegmentRef& ref,
                                         std::span<const std::uint8_t> body, channel::FrameLoans loans,
                                         std::vector<std::uint8_t> own) noexcept {
  void* memory = enif_alloc_resource(state_.segment_type, sizeof(SegmentHandle));
  auto* handle = new (memory) SegmentHandle{.channel = this,
                                            .ref = ref,
                                            .body = body,
                                            .times = {},
                                            .is_error = header.kind == Kind::kError,
                                            .timed = (header.flags & channel::kTimings) != 0,
                                            .plain = (header.flags & channel::kPlain) != 0,
                                            .has_objects = (header.flags & channel::kHasObjects) != 0,
                                            .decoded = false,
                                            .pinned = false,
                                            .released = false,
                                            .loans = std::move(loans),
                                            .own = std::move(own)};
  if (!handle->own.empty()) handle->body = handle->own;
  std::copy(std::begin(header.times), std::end(header.times), std::begin(handle->times));
  enif_keep_resource(this);
  const ERL_NIF_TERM term = enif_make_resource(env, handle);
  enif_release_resource(handle);
  return term;
}

ERL_NIF_TERM timed_term(ErlNifEnv* env, const Atoms& atoms, ERL_NIF_TERM reply,
                        const std::uint64_t (&times)[5]) noexcept {
  const std::uint64_t now = monotonic_ns();
  const std::uint64_t transfer = now > times[4] ? now - times[4] : 0;
  const ERL_NIF_TERM measured = enif_make_tuple5(
      env, enif_make_uint64(env, times[0]), enif_make_uint64(env, times[1]), enif_make_uint64(env, times[2]),
      enif_make_uint64(env, times[3]), enif_make_uint64(env, transfer));
  return enif_make_tuple3(env, atoms.timed, reply, measured);
}

}  // namespace typhon::beam
