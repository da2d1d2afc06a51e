#include "worker/mailroom.h"

#include <algorithm>
#include <utility>

#include "os/clock.h"
#include "os/thread.h"

namespace typhon::worker {

using channel::FrameHeader;
using channel::Kind;

namespace {

constexpr std::size_t kDropAtLeast = 256;
constexpr std::uint64_t kLongestSpinUs = 10'000;

}  // namespace

Mailroom::Mailroom(channel::Region& region) noexcept
    : region_(region),
      header_(region.header()),
      lends_((header_.flags & channel::kFlagLoans) != 0),
      spin_ns_(std::min<std::uint64_t>(header_.worker_spin_us, kLongestSpinUs) * 1000),
      claims_(region.claims()),
      requests_(region.request_ring(), region.ring_size(), header_.request_tail.value,
                header_.request_head.value),
      drop_at_(kDropAtLeast),
      loop_(claims_),
      cancels_(region, loop_),
      router_(*this, header_) {}

// --- the ring ---

Mailroom::Peeked Mailroom::peek(FrameHeader& header, std::span<const std::uint8_t>& body) noexcept {
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

void Mailroom::pop() noexcept {
  requests_.pop();
  channel::tell_of_room(header_, region_.ring_size());
}

bool Mailroom::pump() noexcept {
  const Lock reading(reading_);
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

bool Mailroom::spin_for_frame() noexcept {
  if (spin_ns_ == 0 || !spin_guard_.spin_allowed()) return false;
  // Callers that poll keep every core busy: one that spins for long takes it from them.
  const bool polled = header_.reader_word.value.load(std::memory_order_relaxed) == channel::kPolled;
  const std::uint64_t limit = os::monotonic_ns() + (polled ? spin_ns_ / 5 : spin_ns_);
  for (unsigned round = 1;; ++round) {
    if (!ring_empty()) return true;
    os::cpu_relax();
    if (round % 16 != 0) continue;
    if (os::monotonic_ns() > limit) return false;
    if (!spin_guard_.yield([&] { return !ring_empty(); })) return false;
  }
}

// --- routing ---

void Mailroom::route(const FrameHeader& header, std::span<const std::uint8_t> body) noexcept {
  channel::FrameLoans loans = loans_of(header, body);
  Incoming frame{header, {body.begin(), body.end()}, std::move(loans)};
  const Lock lock(mutex_);
  switch (header.kind) {
    case Kind::kAnswer:
      return put_answer(frame);
    case Kind::kMessage:
      return put_message(frame);
    case Kind::kCall:
    case Kind::kCast:
      return put_call(frame);
    case Kind::kRelease:
      return enqueue(std::move(frame));
    default:
      broken_.store(true, std::memory_order_relaxed);
  }
}

void Mailroom::put_answer(Incoming& frame) noexcept {
  const auto waiter = waiters_.find(frame.header.id);
  if (waiter == waiters_.end()) {
    loop_.offer_answer(frame);  // else whoever asked has stopped waiting
    return;
  }
  waiter->second->answer = std::move(frame);
  waiter->second->lane->parker.unpark();
}

void Mailroom::put_message(Incoming& frame) noexcept {
  const FrameHeader header = frame.header;
  messages_.push_back(std::move(frame));
  for (Lane* lane : receiving_) lane->parker.unpark();
  loop_.message_came();
  if (handles_messages_) enqueue({header, {}});
}

void Mailroom::put_call(Incoming& frame) noexcept {
  const auto waiter = frame.header.times[2] == 0 ? waiters_.end() : waiters_.find(frame.header.times[2]);
  if (waiter != waiters_.end()) {
    if (waiter->second->serves_all) {
      enqueue(std::move(frame));
    } else {
      waiter->second->nested.push_back(std::move(frame));
    }
    waiter->second->lane->parker.unpark();
    return;
  }
  if (!loop_.offer_call(frame)) enqueue(std::move(frame));
}

// Work for whichever thread has none.
void Mailroom::enqueue(Incoming&& frame) noexcept {
  if (calls_.size() >= drop_at_) drop_withdrawn();
  calls_.push_back(std::move(frame));
  waiting_calls_.fetch_add(1, std::memory_order_relaxed);
  unpark_idle();
}

// Calls that the BEAM has taken back would lie here for as long as those before them take.
void Mailroom::drop_withdrawn() noexcept {
  const std::size_t dropped = std::erase_if(calls_, [this](const Incoming& frame) {
    return frame.header.kind == Kind::kCall && claims_.state(frame.header.id) == channel::Claim::kWithdrawn;
  });
  waiting_calls_.fetch_sub(dropped, std::memory_order_relaxed);
  drop_at_ = std::max(kDropAtLeast, 2 * calls_.size());
}

void Mailroom::unpark_idle() noexcept {
  if (std::exchange(takes_next_, false) || idle_.empty()) return;
  idle_.back()->parker.unpark();
  idle_.pop_back();
}

std::optional<Incoming> Mailroom::take_call(Take which) noexcept {
  if (!has_calls()) return std::nullopt;
  const Lock lock(mutex_);
  const auto first = std::ranges::find_if(
      calls_, [which](const Incoming& call) { return which == Take::kAny || call.header.times[2] != 0; });
  if (first == calls_.end()) return std::nullopt;
  std::optional<Incoming> frame = std::move(*first);
  calls_.erase(first);
  waiting_calls_.fetch_sub(1, std::memory_order_relaxed);
  return frame;
}

std::optional<Incoming> Mailroom::take_call_of(const std::unordered_set<std::uint64_t>& tags) noexcept {
  const Lock lock(mutex_);
  const auto found = std::ranges::find_if(
      calls_, [&](const Incoming& frame) { return tags.contains(frame.header.times[2]); });
  if (found == calls_.end()) return std::nullopt;
  std::optional<Incoming> frame(std::move(*found));
  calls_.erase(found);
  waiting_calls_.fetch_sub(1, std::memory_order_relaxed);
  return frame;
}

std::optional<Incoming> Mailroom::take_message() noexcept {
  const Lock lock(mutex_);
  return take_first(messages_);
}

bool Mailroom::has_messages() noexcept {
  const Lock lock(mutex_);
  return !messages_.empty();
}

void Mailroom::set_handler(bool handles) noexcept {
  const Lock lock(mutex_);
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

// --- threads ---

void Mailroom::remove_lane(Lane& lane) noexcept {
  cancels_.remove_lane(lane);
  const Lock lock(mutex_);
  std::erase(idle_, &lane);
  std::erase(receiving_, &lane);
}

void Mailroom::set_idle(Lane& lane, bool idle) noexcept {
  const Lock lock(mutex_);
  std::erase(idle_, &lane);
  if (idle) idle_.push_back(&lane);
}

void Mailroom::set_receiving(Lane& lane, bool receiving) noexcept {
  const Lock lock(mutex_);
  std::erase(receiving_, &lane);
  if (receiving) receiving_.push_back(&lane);
}

void Mailroom::add_waiter(std::uint64_t tag, Waiter& waiter) noexcept {
  const Lock lock(mutex_);
  waiters_[tag] = &waiter;
}

void Mailroom::remove_waiter(std::uint64_t tag) noexcept {
  const Lock lock(mutex_);
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

std::optional<Incoming> Mailroom::take_nested(Waiter& waiter) noexcept {
  const Lock lock(mutex_);
  return take_first(waiter.nested);
}

std::optional<Incoming> Mailroom::take_answer(Waiter& waiter) noexcept {
  const Lock lock(mutex_);
  return std::exchange(waiter.answer, std::nullopt);
}

// Not while another thread of the language has something to do: it would have to wait for the lock.
bool Mailroom::start_spinning(const Lane& lane, bool takes_calls) noexcept {
  if (cancels_.others_serve(lane) || loop_.is_busy()) return false;
  const Lock lock(mutex_);
  if (spins_) return false;
  spins_ = true;
  takes_next_ = takes_calls;
  return true;
}

bool Mailroom::spin(const Lane& lane, bool takes_calls) noexcept {
  if (spin_ns_ == 0 || !spin_guard_.spin_allowed() || !start_spinning(lane, takes_calls)) return false;
  auto& word = header_.worker_word.value;
  word.store(channel::kSpin, std::memory_order_seq_cst);
  const std::uint64_t limit = os::monotonic_ns() + spin_ns_;
  const auto something = [&] {
    return !ring_empty() || (takes_calls && has_calls()) || lane.parker.is_set();
  };
  bool came = false;
  for (unsigned round = 1;; ++round) {
    came = something();
    if (came) break;
    os::cpu_relax();
    if (round % 16 != 0) continue;
    if (os::monotonic_ns() > limit || !spin_guard_.yield(something)) break;
  }
  if (came) pump();
  word.store(channel::kAsleep, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!ring_empty()) {
    pump();
    came = true;
  }
  {
    const Lock lock(mutex_);
    spins_ = false;
    takes_next_ = false;
  }
  // While the word said that somebody reads, nobody woke the router to learn that the channel closes.
  if (header_.closing.value.load(std::memory_order_acquire) != 0) wake_all();
  return came;
}

// --- the end ---

void Mailroom::wake_all() noexcept {
  cancels_.unpark_all();
  loop_.ring();
}

void Mailroom::leave() noexcept {
  {
    const Lock lock(mutex_);
    calls_.clear();
    messages_.clear();
    waiting_calls_.store(0, std::memory_order_relaxed);
  }
  loop_.drop_all();
  if (!lends_) return;
  channel::LeftBehind{header_.request_leavings.value, header_.request_swept.value,
                      region_.request_ring(),         region_.ring_size(),
                      header_.request_tail.value,     header_.request_head.value}
      .leave();
}

}  // namespace typhon::worker
