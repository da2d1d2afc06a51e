#include "worker/loop_mail.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "channel/layout.h"
#include "os/wake_up.h"

namespace typhon::worker {

namespace {

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

}  // namespace

// --- the loop ---

int LoopMail::attach() noexcept {
  const Lock lock(mutex_);
  // What came while the loop was being started has had nobody to be signalled to.
  const bool pending = !calls_.empty() || !cancels_.empty();
  if (!wake_up_.valid()) wake_up_ = os::make_wake_up(pending);
  return wake_up_.get();
}

bool LoopMail::is_attached() noexcept {
  const Lock lock(mutex_);
  return wake_up_.valid();
}

// Once, until it has looked: many calls may come before it does.
void LoopMail::signal() noexcept {
  if (!wake_up_.valid() || std::exchange(signalled_, true)) return;
  os::set_wake_up(wake_up_.get());
}

void LoopMail::clear_signal() noexcept {
  const Lock lock(mutex_);
  signalled_ = false;
  os::clear_wake_up(wake_up_.get());
}

void LoopMail::ring() noexcept {
  const Lock lock(mutex_);
  signal();
}

void LoopMail::note_busy() noexcept {
  busy_.store(!running_.empty() || !calls_.empty() || !answers_.empty(), std::memory_order_relaxed);
}

std::optional<Incoming> LoopMail::take_call() noexcept {
  const Lock lock(mutex_);
  std::optional<Incoming> call = take_first(calls_);
  note_busy();
  return call;
}

std::optional<Incoming> LoopMail::take_answer() noexcept {
  const Lock lock(mutex_);
  std::optional<Incoming> answer = take_first(answers_);
  note_busy();
  return answer;
}

std::optional<std::uint64_t> LoopMail::take_cancel() noexcept {
  const Lock lock(mutex_);
  while (const auto id = take_first(cancels_)) {
    if (running_.contains(*id)) return id;  // else it has ended meanwhile
  }
  return std::nullopt;
}

void LoopMail::set_listens(bool listens) noexcept {
  const Lock lock(mutex_);
  listens_ = listens;
}

void LoopMail::expect_answer(std::uint64_t tag) noexcept {
  const Lock lock(mutex_);
  tags_.insert(tag);
}

void LoopMail::forget_answer(std::uint64_t tag) noexcept {
  const Lock lock(mutex_);
  tags_.erase(tag);
}

void LoopMail::note_coroutine(std::span<const std::uint8_t> body, bool is) noexcept {
  const std::size_t hash = name_hash(body);
  if (hash == 0) return;
  const Lock lock(mutex_);
  if (is) {
    coroutines_.insert(hash);
  } else {
    coroutines_.erase(hash);
  }
  knows_coroutines_.store(!coroutines_.empty(), std::memory_order_relaxed);
}

// --- for the mailroom ---

bool LoopMail::offer_call(Incoming& frame) noexcept {
  // Who has noted one has done so before the call that is to come here was made.
  if (!knows_coroutines_.load(std::memory_order_relaxed)) return false;
  if ((frame.header.flags & channel::kInSegment) != 0) return false;
  const std::size_t hash = name_hash(frame.body);
  const Lock lock(mutex_);
  if (!coroutines_.contains(hash)) return false;
  calls_.push_back(std::move(frame));
  note_busy();
  signal();
  return true;
}

bool LoopMail::offer_answer(Incoming& frame) noexcept {
  const Lock lock(mutex_);
  if (tags_.erase(frame.header.id) == 0) return false;
  answers_.push_back(std::move(frame));
  note_busy();
  signal();
  return true;
}

void LoopMail::message_came() noexcept {
  const Lock lock(mutex_);
  if (listens_) signal();
}

void LoopMail::drop_all() noexcept {
  const Lock lock(mutex_);
  calls_.clear();
  answers_.clear();
  note_busy();
}

// --- for Cancels ---

void LoopMail::add(std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  running_.insert(id);
  if (imports_) claims_.set_imports(id, true);
  note_busy();
}

void LoopMail::remove(std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  running_.erase(id);
  note_busy();
}

bool LoopMail::cancel(std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  if (!running_.contains(id)) return false;
  cancels_.push_back(id);
  signal();
  return true;
}

bool LoopMail::has_cancel(std::uint64_t id) noexcept {
  const Lock lock(mutex_);
  return std::find(cancels_.begin(), cancels_.end(), id) != cancels_.end();
}

void LoopMail::set_imports(bool imports) noexcept {
  const Lock lock(mutex_);
  imports_ = imports;
  for (const std::uint64_t id : running_) claims_.set_imports(id, imports);
}

}  // namespace typhon::worker
