#include "executor/inbox.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "channel/doorbell.h"
#include "os/clock.h"
#include "os/thread.h"
#include "os/wait.h"
#include "os/wake_up.h"

namespace typhon::executor {

using channel::FrameHeader;
using channel::Kind;

namespace {

// Calls that were given up between their claim and their beginning. One whose caller's end crossed its reply
// stays until so many others have come.
constexpr std::size_t kMaxCancelled = 65'536;
constexpr std::int64_t kRouterWaitNs = 1'000'000'000;
constexpr std::uint64_t kRouterSpinNs = 20'000;
constexpr std::size_t kDropAtLeast = 256;

// The module and the function of a call, as they stand in its body: {Module, Function, …} with binaries. 0
// when the body begins in another way (the method of an object, a body in a segment).
std::size_t name_hash(std::span<const std::uint8_t> body) noexcept {
  constexpr std::size_t kTupleHeader = 3;  // version, SMALL_TUPLE_EXT, arity
  constexpr std::uint8_t kBinary = 109;
  std::size_t at = kTupleHeader;
  for (int part = 0; part < 2; ++part) {
    if (body.size() < at + 5 || body[at] != kBinary) return 0;
    const std::size_t length = (std::size_t{body[at + 1]} << 24) | (std::size_t{body[at + 2]} << 16) |
                               (std::size_t{body[at + 3]} << 8) | body[at + 4];
    if (length > body.size() - at - 5) return 0;
    at += 5 + length;
  }
  const std::string_view text(reinterpret_cast<const char*>(body.data()), at);
  return std::hash<std::string_view>{}(text) | 1;
}

template <class T>
std::optional<T> take_first(std::deque<T>& queue) noexcept {
  if (queue.empty()) return std::nullopt;
  std::optional<T> first(std::move(queue.front()));
  queue.pop_front();
  return first;
}

}  // namespace

Inbox::Inbox(channel::Region& region) noexcept
    : region_(region),
      header_(region.header()),
      lends_((header_.flags & channel::kFlagLoans) != 0),
      requests_(region.request_ring(), region.ring_size(), header_.request_tail.value,
                header_.request_head.value),
      claims_(region.claims()),
      drop_at_(kDropAtLeast),
      imports_(header_) {}

Inbox::~Inbox() {
  if (loop_fd_ >= 0) ::close(loop_fd_);
}

// --- the ring ---

Inbox::Peeked Inbox::peek(FrameHeader& header, std::span<const std::uint8_t>& body) noexcept {
  switch (requests_.peek(header, body)) {
    case channel::RingConsumer::State::kEmpty:
      return Peeked::kNothing;
    case channel::RingConsumer::State::kFrame:
      return Peeked::kFrame;
    case channel::RingConsumer::State::kBroken:
      break;
  }
  broken_.store(true, std::memory_order_relaxed);
  return Peeked::kBroken;
}

void Inbox::pop() noexcept {
  requests_.pop();
  channel::tell_of_room(header_, region_.ring_size());
}

bool Inbox::pump() noexcept {
  std::lock_guard reading(reading_);
  for (;;) {
    FrameHeader header{};
    std::span<const std::uint8_t> body;
    switch (peek(header, body)) {
      case Peeked::kNothing:
        return true;
      case Peeked::kBroken:
        return false;
      case Peeked::kFrame:
        route(header, body);
        pop();
    }
  }
}

void Inbox::leave() noexcept {
  {
    std::lock_guard lock(mutex_);
    for (auto* queue : {&calls_, &messages_, &loop_calls_, &loop_answers_}) queue->clear();
    waiting_calls_.store(0, std::memory_order_relaxed);
  }
  if (!lends_) return;
  channel::LeftBehind{header_.request_leavings.value, header_.request_swept.value,
                      region_.request_ring(),         region_.ring_size(),
                      header_.request_tail.value,     header_.request_head.value}
      .leave();
}

// --- routing ---

void Inbox::route(const FrameHeader& header, std::span<const std::uint8_t> body) noexcept {
  channel::FrameLoans loans = loans_of(header, body);
  Incoming frame{header, {body.begin(), body.end()}, std::move(loans)};
  std::lock_guard lock(mutex_);
  switch (header.kind) {
    case Kind::kAnswer: {
      if (const auto waiter = waiters_.find(header.id); waiter != waiters_.end()) {
        waiter->second->answer = std::move(frame);
        waiter->second->lane->parker.unpark();
      } else if (async_tags_.erase(header.id) != 0) {
        loop_answers_.push_back(std::move(frame));
        signal_loop();
      }
      return;  // else: whoever asked has stopped waiting
    }
    case Kind::kMessage: {
      messages_.push_back(std::move(frame));
      for (Lane* lane : receiving_) lane->parker.unpark();
      if (loop_listens_) signal_loop();
      if (handles_messages_) enqueue({header, {}});
      return;
    }
    case Kind::kCall:
    case Kind::kCast: {
      const auto waiter = header.times[2] == 0 ? waiters_.end() : waiters_.find(header.times[2]);
      if (waiter != waiters_.end()) {
        waiter->second->nested.push_back(std::move(frame));
        waiter->second->lane->parker.unpark();
        return;
      }
      if (!coroutines_.empty() && (header.flags & channel::kInSegment) == 0 &&
          coroutines_.contains(name_hash(frame.body))) {
        loop_calls_.push_back(std::move(frame));
        signal_loop();
        return;
      }
      [[fallthrough]];
    }
    case Kind::kRelease:
      enqueue(std::move(frame));
      return;
    default:
      broken_.store(true, std::memory_order_relaxed);
  }
}

// Work for whichever thread has none.
void Inbox::enqueue(Incoming frame) noexcept {
  if (calls_.size() >= drop_at_) drop_withdrawn();
  calls_.push_back(std::move(frame));
  waiting_calls_.fetch_add(1, std::memory_order_relaxed);
  unpark_idle();
}

// Calls that the BEAM has taken back would lie here for as long as those before them take.
void Inbox::drop_withdrawn() noexcept {
  const std::size_t dropped = std::erase_if(calls_, [this](const Incoming& frame) {
    return frame.header.kind == Kind::kCall && claims_.state(frame.header.id) == channel::Claim::kWithdrawn;
  });
  waiting_calls_.fetch_sub(dropped, std::memory_order_relaxed);
  drop_at_ = std::max(kDropAtLeast, 2 * calls_.size());
}

void Inbox::unpark_idle() noexcept {
  if (std::exchange(takes_next_, false) || idle_.empty()) return;
  idle_.back()->parker.unpark();
  idle_.pop_back();
}

std::optional<Incoming> Inbox::take_call() noexcept {
  if (waiting_calls_.load(std::memory_order_relaxed) == 0) return std::nullopt;
  std::lock_guard lock(mutex_);
  std::optional<Incoming> frame = take_first(calls_);
  if (frame) waiting_calls_.fetch_sub(1, std::memory_order_relaxed);
  return frame;
}

bool Inbox::has_calls() noexcept { return waiting_calls_.load(std::memory_order_relaxed) != 0; }

std::optional<Incoming> Inbox::take_message() noexcept {
  std::lock_guard lock(mutex_);
  return take_first(messages_);
}

// --- threads ---

void Inbox::add_lane(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  lanes_.push_back(&lane);
}

void Inbox::remove_lane(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  std::erase(lanes_, &lane);
  std::erase(idle_, &lane);
  std::erase(receiving_, &lane);
}

void Inbox::set_idle(Lane& lane, bool idle) noexcept {
  std::lock_guard lock(mutex_);
  std::erase(idle_, &lane);
  if (idle) idle_.push_back(&lane);
}

void Inbox::set_receiving(Lane& lane, bool receiving) noexcept {
  std::lock_guard lock(mutex_);
  std::erase(receiving_, &lane);
  if (receiving) receiving_.push_back(&lane);
}

bool Inbox::begin(Lane& lane, std::uint64_t id) noexcept {
  std::lock_guard lock(mutex_);
  if (id != 0 && forget_cancelled(id)) return false;
  if (lane.calls.empty()) ++serving_;
  lane.calls.push_back({id, Lane::Call::State::kRuns});
  // On top of a call that imports: the code of a module asks the BEAM.
  if (lane.importing.depth != 0) claims_.set_imports(id, true);
  return true;
}

Lane::Call::State Inbox::end(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  const Lane::Call::State state = lane.calls.back().state;
  lane.calls.pop_back();
  if (lane.calls.empty()) --serving_;
  return state;
}

void Inbox::add_waiter(std::uint64_t tag, Waiter& waiter) noexcept {
  std::lock_guard lock(mutex_);
  waiters_[tag] = &waiter;
}

void Inbox::remove_waiter(std::uint64_t tag) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = waiters_.find(tag);
  if (found == waiters_.end()) return;
  // Nested calls that it has not begun are calls like any other now.
  for (Incoming& frame : found->second->nested) {
    calls_.push_back(std::move(frame));
    waiting_calls_.fetch_add(1, std::memory_order_relaxed);
    unpark_idle();
  }
  waiters_.erase(found);
}

std::optional<Incoming> Inbox::take_nested(Waiter& waiter) noexcept {
  std::lock_guard lock(mutex_);
  return take_first(waiter.nested);
}

std::optional<Incoming> Inbox::take_answer(Waiter& waiter) noexcept {
  std::lock_guard lock(mutex_);
  return std::exchange(waiter.answer, std::nullopt);
}

// --- cancelling ---

namespace {

void mark_cancelled(Lane::Call& call) noexcept {
  if (call.state == Lane::Call::State::kRuns) call.state = Lane::Call::State::kCancelled;
}

bool is_cancelled(const Lane::Call& call) noexcept { return call.state == Lane::Call::State::kCancelled; }

bool wants_interrupt(const Lane& lane) noexcept {
  return !lane.interrupted && !lane.calls.empty() && is_cancelled(lane.calls.back()) &&
         lane.importing.depth == 0;
}

bool interrupt_innermost(Lane& lane) noexcept {
  if (lane.calls.empty() || !is_cancelled(lane.calls.back())) return false;
  lane.calls.back().state = Lane::Call::State::kInterrupted;
  return true;
}

}  // namespace

bool Inbox::cancel(std::uint64_t id) noexcept {
  std::lock_guard lock(mutex_);
  for (Lane* lane : lanes_) {
    auto call = std::find_if(lane->calls.begin(), lane->calls.end(),
                             [id](const Lane::Call& running) { return running.id == id; });
    if (call == lane->calls.end()) continue;
    for (; call != lane->calls.end(); ++call) mark_cancelled(*call);
    lane->parker.unpark();
    return true;
  }
  if (async_calls_.contains(id)) {
    loop_cancels_.push_back(id);
    signal_loop();
    return false;
  }
  if (cancelled_.insert(id).second) {
    cancelled_order_.push_back(id);
    if (cancelled_order_.size() > kMaxCancelled) {
      cancelled_.erase(cancelled_order_.front());
      cancelled_order_.pop_front();
    }
  }
  cancelled_count_.store(cancelled_.size(), std::memory_order_relaxed);
  return false;
}

void Inbox::cancel_all() noexcept {
  std::lock_guard lock(mutex_);
  for (Lane* lane : lanes_) {
    for (Lane::Call& call : lane->calls) mark_cancelled(call);
    lane->parker.unpark();
  }
}

bool Inbox::take_cancel(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  return interrupt_innermost(lane);
}

bool Inbox::take_interrupt(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  return lane.importing.depth == 0 && interrupt_innermost(lane);
}

bool Inbox::has_cancels() noexcept {
  std::lock_guard lock(mutex_);
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane* lane) {
    return !lane->interrupted && std::any_of(lane->calls.begin(), lane->calls.end(), is_cancelled);
  });
}

bool Inbox::was_cancelled(std::uint64_t id) noexcept {
  if (cancelled_count_.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(mutex_);
  return forget_cancelled(id);
}

bool Inbox::forget_cancelled(std::uint64_t id) noexcept {
  if (cancelled_.erase(id) == 0) return false;
  std::erase(cancelled_order_, id);
  cancelled_count_.store(cancelled_.size(), std::memory_order_relaxed);
  return true;
}

#ifdef Py_GIL_DISABLED
std::vector<unsigned long> Inbox::to_interrupt(bool main) noexcept {
  std::lock_guard lock(mutex_);
  std::vector<unsigned long> threads;
  for (const Lane* lane : lanes_) {
    if ((main || !lane->is_main) && wants_interrupt(*lane)) threads.push_back(lane->python_thread);
  }
  return threads;
}

Lane* Inbox::begin_interrupt(unsigned long python_thread) noexcept {
  std::lock_guard lock(mutex_);
  for (Lane* lane : lanes_) {
    if (lane->python_thread != python_thread || !wants_interrupt(*lane)) continue;
    interrupt_innermost(*lane);
    lane->interrupted = true;
    return lane;
  }
  return nullptr;
}
#else
std::vector<Lane*> Inbox::to_interrupt(bool main) noexcept {
  std::lock_guard lock(mutex_);
  std::vector<Lane*> lanes;
  for (Lane* lane : lanes_) {
    if ((main || !lane->is_main) && wants_interrupt(*lane)) lanes.push_back(lane);
  }
  return lanes;
}
#endif

std::uint64_t Inbox::innermost(Lane& lane) noexcept {
  std::lock_guard lock(mutex_);
  return lane.calls.empty() ? 0 : lane.calls.back().id;
}

// --- imports ---

// Of all calls that have to wait for the thread.
void Inbox::set_imports(const Lane* lane, bool imports) const noexcept {
  if (lane) {
    for (const Lane::Call& call : lane->calls) claims_.set_imports(call.id, imports);
  } else {
    for (const std::uint64_t id : async_calls_) claims_.set_imports(id, imports);
  }
}

void Inbox::begin_import(Lane* lane, std::string_view name) noexcept {
  std::lock_guard lock(mutex_);
  Importing& importing = lane ? lane->importing : loop_importing_;
  if (importing.depth++ != 0) return;
  importing.mark = imports_.begin(lane && !lane->calls.empty() ? lane->calls.back().id : 0, name);
  set_imports(lane, true);
}

void Inbox::end_import(Lane* lane) noexcept {
  std::lock_guard lock(mutex_);
  Importing& importing = lane ? lane->importing : loop_importing_;
  if (--importing.depth != 0) return;
  set_imports(lane, false);
  imports_.end(importing.mark);
}

// --- the event loop ---

int Inbox::attach_loop() noexcept {
  std::lock_guard lock(mutex_);
  // What came while the loop was being started has had nobody to be signalled to.
  const bool pending = !loop_calls_.empty() || !loop_cancels_.empty();
  if (loop_fd_ < 0) loop_fd_ = os::make_wake_up(pending).release();
  return loop_fd_;
}

bool Inbox::has_loop() noexcept {
  std::lock_guard lock(mutex_);
  return loop_fd_ >= 0;
}

// Once, until it has looked: many calls may come before it does.
void Inbox::signal_loop() noexcept {
  if (loop_fd_ < 0 || std::exchange(loop_signalled_, true)) return;
  os::set_wake_up(loop_fd_);
}

void Inbox::clear_loop_signal() noexcept {
  std::lock_guard lock(mutex_);
  loop_signalled_ = false;
  os::clear_wake_up(loop_fd_);
}

void Inbox::ring_loop() noexcept {
  std::lock_guard lock(mutex_);
  signal_loop();
}

void Inbox::expect_async_answer(std::uint64_t tag) noexcept {
  std::lock_guard lock(mutex_);
  async_tags_.insert(tag);
}

void Inbox::forget_async_answer(std::uint64_t tag) noexcept {
  std::lock_guard lock(mutex_);
  async_tags_.erase(tag);
}

void Inbox::loop_runs(std::uint64_t id, bool runs) noexcept {
  if (id == 0) return;
  std::lock_guard lock(mutex_);
  if (!runs) {
    async_calls_.erase(id);
    return;
  }
  async_calls_.insert(id);
  if (loop_importing_.depth != 0) claims_.set_imports(id, true);
  if (forget_cancelled(id)) {  // while it was on its way to the loop
    loop_cancels_.push_back(id);
    signal_loop();
  }
}

void Inbox::note_coroutine(std::span<const std::uint8_t> body, bool is) noexcept {
  const std::size_t hash = name_hash(body);
  if (hash == 0) return;
  std::lock_guard lock(mutex_);
  if (is) {
    coroutines_.insert(hash);
  } else {
    coroutines_.erase(hash);
  }
}

std::optional<Incoming> Inbox::take_loop_call() noexcept {
  std::lock_guard lock(mutex_);
  return take_first(loop_calls_);
}

std::optional<Incoming> Inbox::take_loop_answer() noexcept {
  std::lock_guard lock(mutex_);
  return take_first(loop_answers_);
}

std::optional<std::uint64_t> Inbox::take_loop_cancel() noexcept {
  std::lock_guard lock(mutex_);
  while (const auto id = take_first(loop_cancels_)) {
    if (async_calls_.contains(*id)) return id;  // else it has ended meanwhile
  }
  return std::nullopt;
}

void Inbox::set_loop_listens(bool listens) noexcept {
  std::lock_guard lock(mutex_);
  loop_listens_ = listens;
}

void Inbox::set_handler(bool handles) noexcept {
  std::lock_guard lock(mutex_);
  if (handles && !handles_messages_) {
    // Those that came before there was a handler are its work, too.
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      FrameHeader header{};
      header.kind = Kind::kMessage;
      enqueue({header, {}});
    }
  }
  handles_messages_ = handles;
}

// --- the router ---

int Inbox::start_router(const std::atomic<bool>& stop) noexcept {
  {
    const python::SubstituteLock direct(direct_);
    if (routed_.load(std::memory_order_seq_cst)) return 0;
    stop_ = &stop;
    routed_.store(true, std::memory_order_seq_cst);
  }
  // From now on the word is the router's. The main thread may sleep on it: whoever rings would wake one of
  // the two.
  auto& word = header_.worker_word.value;
  while (main_sleeps_.load(std::memory_order_seq_cst)) {
    static_cast<void>(channel::wake_from(word, channel::kAsleep));
    os::wake_word(word, INT32_MAX);
    ::sched_yield();
  }
  const int failed = os::start_thread(&Inbox::router_main, this, std::size_t{256} * 1024);
  if (failed != 0) {
    routed_.store(false, std::memory_order_seq_cst);
    return failed;
  }
  return 0;
}

void* Inbox::router_main(void* self) noexcept {
  os::name_this_thread("typhon-router");
  auto* inbox = static_cast<Inbox*>(self);
  inbox->router_loop();
  inbox->router_end_.tell();
  return nullptr;
}

bool Inbox::finish_router(std::int64_t limit_ns) noexcept {
  if (!routed()) return true;
  auto& word = header_.worker_word.value;
  return router_end_.wait(limit_ns, [&] {
    if (!channel::wake_from(word, channel::kAsleep)) os::wake_word(word, INT32_MAX);
  });
}

void Inbox::router_loop() noexcept {
  auto& word = header_.worker_word.value;
  const auto ends = [&] {
    return stop_->load(std::memory_order_acquire) ||
           header_.closing.value.load(std::memory_order_acquire) != 0;
  };
  while (!ends()) {
    if (!pump()) break;
    const std::uint64_t limit = os::monotonic_ns() + kRouterSpinNs;
    const auto reads = [&] { return word.load(std::memory_order_relaxed) != channel::kSpin; };
    for (unsigned round = 1; header_.worker_spin_us != 0 && !ring_has_frames() && reads(); ++round) {
      os::cpu_relax();
      if (round % 16 == 0 && os::monotonic_ns() > limit) break;
    }
    if (ring_has_frames()) continue;
    // A lane that reads makes the word asleep when it stops, and then looks at the ring once more.
    std::uint32_t state = channel::kAwake;
    if (word.compare_exchange_strong(state, channel::kAsleep, std::memory_order_seq_cst))
      state = channel::kAsleep;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!ring_has_frames() && !ends()) os::wait_word(word, state, kRouterWaitNs);
    state = channel::kAsleep;
    word.compare_exchange_strong(state, channel::kAwake, std::memory_order_seq_cst);
  }
  wake_all();
}

// As the other side counts: from any thread.
bool Inbox::ring_has_frames() const noexcept {
  return header_.request_tail.value.load(std::memory_order_acquire) !=
         header_.request_head.value.load(std::memory_order_acquire);
}

// Not while another thread of Python has something to do: it would have to wait for the GIL.
bool Inbox::start_spinning(const Lane& lane, bool takes_calls) noexcept {
  std::lock_guard lock(mutex_);
  const std::size_t own = lane.calls.empty() ? 0 : 1;
  if (spins_ || serving_ > own || !async_calls_.empty() || !loop_calls_.empty() || !loop_answers_.empty())
    return false;
  spins_ = true;
  takes_next_ = takes_calls;
  return true;
}

bool Inbox::spin(const Lane& lane, bool takes_calls, std::uint64_t spin_ns,
                 channel::SpinGuard& guard) noexcept {
  if (spin_ns == 0 || !guard.spin_allowed() || !start_spinning(lane, takes_calls)) return false;
  auto& word = header_.worker_word.value;
  word.store(channel::kSpin, std::memory_order_seq_cst);
  const std::uint64_t limit = os::monotonic_ns() + spin_ns;
  const auto something = [&] {
    return ring_has_frames() || (takes_calls && has_calls()) || lane.parker.is_set();
  };
  bool came = false;
  for (unsigned round = 1;; ++round) {
    came = something();
    if (came) break;
    os::cpu_relax();
    if (round % 16 != 0) continue;
    if (os::monotonic_ns() > limit || !guard.yield(something)) break;
  }
  if (came) pump();
  word.store(channel::kAsleep, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (ring_has_frames()) {
    pump();
    came = true;
  }
  {
    std::lock_guard lock(mutex_);
    spins_ = false;
    takes_next_ = false;
  }
  // While the word said that somebody reads, nobody woke the router to learn that the channel closes.
  if (header_.closing.value.load(std::memory_order_acquire) != 0) wake_all();
  return came;
}

void Inbox::wake_all() noexcept {
  std::lock_guard lock(mutex_);
  for (Lane* lane : lanes_) lane->parker.unpark();
  signal_loop();
}

}  // namespace typhon::executor
