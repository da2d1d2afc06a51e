#include "channel/loan.h"

#include <cstring>

#include "channel/doorbell.h"
#include "channel/ring.h"
#include "os/clock.h"
#include "os/wait.h"

namespace typhon::channel {
namespace {

// How long a lender's thread lets loans gather. Nobody waits for it: it only bounds how long memory stays
// that nobody reads any more.
constexpr std::int64_t kGatherNs = 10'000'000;

}  // namespace

void LoanBox::give_back(Loan* loan) noexcept {
  Loan* first = returned_.load(std::memory_order_relaxed);
  do {
    loan->next = first;
  } while (!returned_.compare_exchange_weak(first, loan, std::memory_order_acq_rel));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (word_.load(std::memory_order_relaxed) == kAsleep) wake_from(word_, kAsleep);
}

bool LoanBox::wait() noexcept {
  while (!stopped_.load(std::memory_order_seq_cst)) {
    word_.store(kAsleep, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!has_returned() && !stopped_.load(std::memory_order_relaxed)) os::wait_word(word_, kAsleep, -1);
    word_.store(kAwake, std::memory_order_relaxed);
    if (!has_returned()) continue;
    os::sleep_ns(kGatherNs);
    // Its lender may have collected them meanwhile.
    if (has_returned()) return true;
  }
  return false;
}

void LoanBox::stop() noexcept {
  stopped_.store(true, std::memory_order_seq_cst);
  wake_from(word_, kAsleep);
}

FrameLoans FrameLoans::of(const FrameHeader& header, std::span<const std::uint8_t>& body) noexcept {
  Loan* first = nullptr;
  if ((header.flags & kLends) == 0 || body.size() < kLoansSize) return {};
  body = body.first(body.size() - kLoansSize);
  std::memcpy(static_cast<void*>(&first), body.data() + body.size(), kLoansSize);
  return FrameLoans(first);
}

void FrameLoans::clear() noexcept {
  Loan* loan = std::exchange(first_, nullptr);
  cursor_ = nullptr;
  index_ = 0;
  while (loan) {
    // Before it is let go of: another thread may have it then, and use `next` for something else.
    Loan* const next = loan->next;
    let_go(*loan);
    loan = next;
  }
}

std::uint32_t FrameLoans::count() const noexcept {
  std::uint32_t count = 0;
  for (const Loan* loan = first_; loan; loan = loan->next) ++count;
  return count;
}

Loan* FrameLoans::at(std::uint32_t index) noexcept {
  if (index < index_) {
    cursor_ = first_;
    index_ = 0;
  }
  while (cursor_ && index_ < index) {
    cursor_ = cursor_->next;
    ++index_;
  }
  if (cursor_) return cursor_;
  cursor_ = first_;
  index_ = 0;
  return nullptr;
}

void LeftBehind::leave() noexcept {
  word.store(kLeft, std::memory_order_seq_cst);
  look_after();
}

// Publisher: publish, fence, look at the word. Receiver: store the word, fence, look for frames. Whoever
// finds both sees to them, and looks again when it is done.
void LeftBehind::look_after() noexcept {
  for (;;) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    std::uint32_t left = kLeft;
    if (!word.compare_exchange_strong(left, kHeld, std::memory_order_seq_cst)) return;
    RingConsumer frames(ring, size, tail, head);
    const std::uint64_t taken = head.load(std::memory_order_acquire);
    const std::uint64_t done = swept.load(std::memory_order_relaxed);
    frames.start_at(taken > done ? taken : done);
    bool broken = false;
    for (;;) {
      FrameHeader header{};
      std::span<const std::uint8_t> body;
      const RingConsumer::State state = frames.peek(header, body);
      broken = state == RingConsumer::State::kBroken;
      if (state != RingConsumer::State::kFrame) break;
      FrameLoans::of(header, body).clear();
      frames.skip();
    }
    // The head stays: it says which requests have been taken.
    swept.store(frames.consumed(), std::memory_order_relaxed);
    word.store(kLeft, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (broken || frames.empty()) return;
  }
}

}  // namespace typhon::channel
