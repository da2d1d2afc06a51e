// Worker: asking the BEAM, telling it, sending messages; and the threads that wait for what it says.
#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "executor/questions.h"
#include "executor/visit.h"
#include "executor/worker.h"
#include "os/clock.h"
#include "python/gil.h"
#include "worker/forked.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;
using os::monotonic_ns;
using python::PyRef;
using worker::kLookAroundNs;

namespace {

// A thread that may not ask yet looks so often whether others have been answered.
constexpr std::int64_t kTurnNs = 5'000'000;

// So many calls run on top of each other because they came while others waited. Each takes some frames of
// Python's stack, which has a thousand.
constexpr unsigned kMostNested = 64;
// Where there are so many, another one begins when nothing has come for so long: somebody may wait for it
// before the answer can come.
constexpr std::uint64_t kStuckNs = 1'000'000'000;

}  // namespace

// --- threads that wait ---

// The lane of this thread, nullptr when it serves no calls.
Lane* Worker::this_lane() noexcept {
  const unsigned long thread = PyThread_get_thread_ident();
  if (thread == main_.python_thread) return &main_;
  const python::SubstituteLock lock(shared_);
  const auto found = threads_.find(thread);
  return found == threads_.end() ? nullptr : found->second;
}

// This thread serves calls, or waits for the BEAM, by this lane.
void Worker::enter_lane(Lane& lane) noexcept {
  lane.enter();
  {
    const python::SubstituteLock lock(shared_);
    threads_[lane.python_thread] = &lane;
  }
  mailroom_.add_lane(lane);
}

void Worker::leave_lane(Lane& lane) noexcept {
  {
    const python::SubstituteLock lock(interrupting_);
    mailroom_.remove_lane(lane);
  }
  const python::SubstituteLock lock(shared_);
  threads_.erase(lane.python_thread);
}

bool Worker::has_threads() noexcept {
  const python::SubstituteLock lock(shared_);
  return !threads_.empty();
}

// For a question of this call's, until forget_question().
std::uint64_t Worker::new_tag(std::uint64_t call) noexcept {
  const python::SubstituteLock lock(shared_);
  if (call != 0) asked_by_.emplace(next_tag_, call);
  return next_tag_++;
}

void Worker::set_captured(std::uint64_t call, bool captured) noexcept {
  const python::SubstituteLock lock(shared_);
  if (captured) {
    captured_.insert(call);
  } else {
    captured_.erase(call);
  }
}

// Whether the call has printed, perhaps without a line feed; once.
bool Worker::take_unfinished(std::uint64_t call) noexcept {
  const python::SubstituteLock lock(shared_);
  return !unfinished_.empty() && unfinished_.erase(call) != 0;
}

std::uint64_t Worker::this_call() noexcept {
  Lane* lane = this_lane();
  return lane ? mailroom_.cancels().innermost(*lane) : 0;
}

// Whether the call `at` is made for an answer that `call` waits for, at any remove. Under shared_.
bool Worker::belongs_to(std::uint64_t at, std::uint64_t call) const noexcept {
  // Each call is younger than its question, and that one than the call that asks it: this comes to an end.
  while (at != 0) {
    const auto made_for = made_for_.find(at);
    if (made_for == made_for_.end()) return false;
    const auto asked_by = asked_by_.find(made_for->second);
    if (asked_by == asked_by_.end()) return false;
    if (asked_by->second == call) return true;
    at = asked_by->second;
  }
  return false;
}

bool Worker::serves_for(std::uint64_t call) noexcept {
  const std::uint64_t at = this_call();
  const python::SubstituteLock lock(shared_);
  return belongs_to(at, call);
}

bool Worker::serve_one_for(std::uint64_t call) noexcept {
  Lane* const lane = this_lane();
  if (!lane) return false;
  std::unordered_set<std::uint64_t> tags;
  {
    const python::SubstituteLock lock(shared_);
    for (const auto& [tag, of] : asked_by_) {
      if (of == call || belongs_to(of, call)) tags.insert(tag);
    }
  }
  if (tags.empty()) return false;
  auto made = mailroom_.take_call_of(tags);
  if (!made) return false;
  serve(*lane, made->header, made->body, made->loans);
  return true;
}

void Worker::forget_question(std::uint64_t tag) noexcept {
  const python::SubstituteLock lock(shared_);
  asked_by_.erase(tag);
}

bool Worker::raise_cancelled(Lane& lane) noexcept {
  take_back_interrupt(lane);
  PyErr_SetString(codec_.cancelled.get(), "the caller gave up on this call");
  return true;
}

bool Worker::wait_for_news(Lane& lane, std::int64_t limit_ns) noexcept {
  if (mailroom_.cancels().take(lane) || lane.interrupted) return !raise_cancelled(lane);
  if (ends() || mailroom_.broken() || outbox_.broken()) {
    PyErr_SetString(codec_.cancelled.get(), "the worker ends");
    return false;
  }
  if (lane.is_main && !mailroom_.routed()) {
    if (mailroom_.ring_empty()) {
      outbox_.ring_reader(false);
      if (!mailroom_.spin_for_frame()) {
        if (limit_ns >= 0) {
          // The doorbell has no limit of its own: a router does.
          if (!start_router()) return false;
        } else if (!sleep_on_doorbell()) {
          return false;
        }
      }
    }
    if (!mailroom_.routed()) mailroom_.pump();
    return true;
  }
  if (mailroom_.spin(lane, false)) return true;
  {
    const python::GilRelease without_gil;
    lane.parker.park(limit_ns < 0 ? kLookAroundNs : std::min(limit_ns, kLookAroundNs));
    // A job may be there for nothing but its messages, all its life.
    static_cast<void>(rest_limit());
    trim_when_due();
  }
  return !lane.is_main || PyErr_CheckSignals() == 0;
}

int Worker::nap(double seconds) noexcept {
  Lane* const lane = this_lane();
  if (!lane || (lane->is_main && settings_.signal != 0)) return 0;
  // A hundred years, where a double has more than there are nanoseconds.
  const auto whole = static_cast<std::uint64_t>(std::min(seconds, 3'153'600'000.0) * 1e9);
  const std::uint64_t limit = monotonic_ns() + whole;
  for (;;) {
    lane->parker.reset();
    if (lane->interrupted) return raise_cancelled(*lane) ? -1 : 0;
    if (pictures_.is_late_here()) {
      PyErr_SetString(codec_.cancelled.get(), "the repr takes too long");
      return -1;
    }
    const std::uint64_t now = monotonic_ns();
    if (now >= limit) return 1;
    const python::GilRelease without_gil;
    lane->parker.park(std::min(static_cast<std::int64_t>(limit - now), kLookAroundNs));
  }
}

// --- asking ---

// The id of the call in whose name this is asked; 0: nobody's. Callers of ErlPort's instances wait for their
// results alone.
std::uint64_t Worker::in_name_of(std::uint64_t call) noexcept {
  if (settings_.erlport != 0) return 0;
  return call == kThisCall ? this_call() : call;
}

bool Worker::take_turn() noexcept {
  const python::SubstituteLock lock(shared_);
  if (open_questions_ >= channel::kMostQuestions) return false;
  ++open_questions_;
  return true;
}

void Worker::end_turn() noexcept {
  const python::SubstituteLock lock(shared_);
  --open_questions_;
}

// What is asked in nobody's name is answered by a process for each: only so many at a time. False with an
// exception set.
bool Worker::wait_for_turn(Lane& lane) noexcept {
  for (;;) {
    if (take_turn()) return true;
    lane.parker.reset();
    if (!wait_for_news(lane, kTurnNs)) return false;
  }
}

// A thread that waits until it is heard does not read the ring, and what it waits for may be the room there.
bool Worker::make_way() noexcept {
  return worker::in_forked_child() || !outbox_.must_wait_to_speak() || start_router();
}

// With a tag it is a question, else a statement. False with an exception set.
bool Worker::send_ask(PyObject* term, std::uint64_t of, std::uint64_t tag,
                      std::span<const std::string_view> parts, const char* root) noexcept {
  FrameHeader header{};
  header.kind = Kind::kAsk;
  header.id = of;
  header.times[0] = tag;
  outbox_.set_more_to_come(false);
  return outbox_.send(codec_, header, term, root, nullptr, parts);
}

// Of a thread that serves whatever comes, and has waited since then: runs one call on top of what waits. One
// that is made in order to answer is always run.
bool Worker::serve_other(Lane& lane, std::uint64_t& since) noexcept {
  const bool deep = lane.nested >= kMostNested && monotonic_ns() - since < kStuckNs;
  auto other = mailroom_.take_call(deep ? worker::Mailroom::Take::kNested : worker::Mailroom::Take::kAny);
  if (!other) return false;
  ++lane.nested;
  serve(lane, other->header, other->body, other->loans);
  --lane.nested;
  since = monotonic_ns();
  return true;
}

// wait_for_news() of such a thread.
bool Worker::wait_for_all_news(Lane& lane, std::uint64_t since) noexcept {
  if (lane.nested >= kMostNested) {
    // An answer may have been put off for that of a call which stays in the queue.
    outbox_.ring_reader(false);
    const std::uint64_t waited = monotonic_ns() - since;
    return wait_for_news(lane, waited < kStuckNs ? static_cast<std::int64_t>(kStuckNs - waited) : -1);
  }
  if (!mailroom_.routed()) return mailroom_.has_calls() || wait_for_news(lane, -1);
  mailroom_.set_idle(lane, true);
  const bool waits = mailroom_.has_calls() || wait_for_news(lane, -1);
  mailroom_.set_idle(lane, false);
  return waits;
}

PyObject* Worker::ask(PyObject* term, std::uint64_t call, std::uint64_t waits_for, bool serves_all) noexcept {
  Visit visit(*this, waits_for);
  Lane* lane = visit.lane();
  if (!lane) return nullptr;
  const std::uint64_t of = in_name_of(call);
  if (of == 0 && !wait_for_turn(*lane)) return nullptr;
  const std::uint64_t tag = new_tag(of);
  worker::Waiter waiter{lane, serves_all};
  mailroom_.add_waiter(tag, waiter);
  std::optional<worker::Incoming> answer;
  bool waits = send_ask(term, of, tag, question_parts(term), "call");
  std::uint64_t since = monotonic_ns();
  while (waits) {
    lane->parker.reset();
    if (auto nested = mailroom_.take_nested(waiter)) {
      serve(*lane, nested->header, nested->body, nested->loans);
      continue;
    }
    answer = mailroom_.take_answer(waiter);
    if (answer) break;
    if (serves_all) {
      if (serve_other(*lane, since)) continue;
      waits = wait_for_all_news(*lane, since);
    } else {
      waits = wait_for_news(*lane, -1);
    }
  }
  mailroom_.remove_waiter(tag);
  forget_question(tag);
  if (of == 0) end_turn();
  return answer ? decode_answer(*answer).release() : nullptr;
}

PyRef Worker::decode_answer(worker::Incoming& answer) noexcept {
  python::DecodeOptions options;
  options.root = "answer";
  const PyRef value = decode(answer.header, answer.body, answer.loans, options);
  if (!value) return {};
  return PyRef::steal(
      PyTuple_Pack(2, (answer.header.flags & channel::kFailed) != 0 ? Py_False : Py_True, value.get()));
}

bool Worker::tell(PyObject* term, std::uint64_t call) noexcept {
  const bool sends = PyTuple_Check(term) && PyTuple_Size(term) == 3;
  return make_way() &&
         send_ask(term, in_name_of(call), 0,
                  sends ? std::span<const std::string_view>(kSendParts) : std::span<const std::string_view>(),
                  "message");
}

bool Worker::send(PyObject* pid_and_message) noexcept {
  FrameHeader header{};
  header.kind = Kind::kSend;
  outbox_.set_more_to_come(false);
  return make_way() && outbox_.send(codec_, header, pid_and_message, "message", nullptr, kMessageParts);
}

}  // namespace typhon::executor
