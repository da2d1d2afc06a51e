// Loan: a large binary that crosses within one process, without being copied.
//
// Only a channel whose two ends are in one process has loans (kFlagLoans). The lender's frame carries,
// instead of the bytes, a chain of Loans: where the bytes are, and how to give them back. In the body a leaf
// of its own (etf::kLent) names one of the chain by its index, so that a body holds no addresses, and one
// that is garbage cannot make a decoder follow one.
//
// Who holds a loan. The frame, from when it is made until whoever took it out of the ring has decoded or
// dropped it (FrameLoans); and each view that was made of it: a memoryview in Python, a binary in the BEAM.
// The last holder gives it back: that is a push onto the list of the lender's LoanBox, from whatever thread,
// which takes no lock and runs no code of the lender's. The lender frees it later, on a thread of its own:
// each side has its own libc and frees only what it has allocated, Python's objects need their GIL, and the
// BEAM's environments must not be touched by a thread of Python's.
//
// Frames that nobody takes. When the receiver of a ring has stopped for good it says so (kLeft), and gives
// back the loans of the frames that lie there; a sender that publishes later does the same for its own.
//
// Two libraries share these structures, each with its own copy of this code: a change of them is a change of
// the protocol.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <utility>

#include "channel/layout.h"

namespace typhon::channel {

class LoanBox;

// How many, and how many bytes. Any thread.
struct Tally {
  std::atomic<std::uint64_t> count{0};
  std::atomic<std::uint64_t> bytes{0};
  void add(std::size_t size) noexcept {
    count.fetch_add(1, std::memory_order_relaxed);
    bytes.fetch_add(size, std::memory_order_relaxed);
  }
  void remove(std::size_t size) noexcept {
    count.fetch_sub(1, std::memory_order_relaxed);
    bytes.fetch_sub(size, std::memory_order_relaxed);
  }
};

struct Loan {
  std::atomic<std::uint32_t> holders;
  LoanBox* home;
  Loan* next;  // of the frame's chain; once it is back, of the box's list
  const std::uint8_t* data;
  std::size_t size;
};

// From this size on a loan is cheaper than copying, as measured: it costs about a microsecond, in which 16
// KiB are copied once; and they would be copied twice.
inline constexpr std::size_t kLendAtLeast = std::size_t{16} * 1024;
// In one frame; what is more is copied.
inline constexpr std::uint32_t kMaxLoans = 4096;

// Where a lender's loans come back. It must outlive every one of them: for as long as the process, as the
// borrower may keep them that long.
class LoanBox {
 public:
  LoanBox() noexcept = default;
  LoanBox(const LoanBox&) = delete;
  LoanBox& operator=(const LoanBox&) = delete;
  ~LoanBox() = default;

  // --- borrower; any thread ---
  void give_back(Loan* loan) noexcept;

  // --- lender ---
  // What has come back, linked by `next`. Any thread: each loan is given out once.
  [[nodiscard]] Loan* collect() noexcept { return returned_.exchange(nullptr, std::memory_order_acquire); }
  [[nodiscard]] bool has_returned() const noexcept {
    return returned_.load(std::memory_order_relaxed) != nullptr;
  }
  // The lender's own thread: until something has come back and has had a moment to be joined by more, so that
  // it wakes seldom however many come. False after stop().
  bool wait() noexcept;
  void stop() noexcept;
  void start() noexcept { stopped_.store(false, std::memory_order_seq_cst); }

  Tally out;  // the lender's count of what has not come back

 private:
  std::atomic<Loan*> returned_{nullptr};
  std::atomic<std::uint32_t> word_{kAwake};  // of the lender's thread; a futex
  std::atomic<bool> stopped_{false};
};

inline void hold(Loan& loan) noexcept { loan.holders.fetch_add(1, std::memory_order_relaxed); }
inline void let_go(Loan& loan) noexcept {
  if (loan.holders.fetch_sub(1, std::memory_order_acq_rel) == 1) loan.home->give_back(&loan);
}

// What loans take in a frame: the address of the first.
inline constexpr std::size_t kLoansSize = sizeof(void*);

// The loans of a frame that was taken out of a ring: lets go of them at its end. Moves between threads, but
// is used by one at a time.
class FrameLoans {
 public:
  FrameLoans() noexcept = default;
  explicit FrameLoans(Loan* first) noexcept : first_(first), cursor_(first) {}
  // Those of a frame that says that it has some: takes their address off the body. A frame that is too short
  // for it has none.
  static FrameLoans of(const FrameHeader& header, std::span<const std::uint8_t>& body) noexcept;
  FrameLoans(const FrameLoans&) = delete;
  FrameLoans& operator=(const FrameLoans&) = delete;
  FrameLoans(FrameLoans&& other) noexcept : first_(std::exchange(other.first_, nullptr)), cursor_(first_) {}
  FrameLoans& operator=(FrameLoans&& other) noexcept {
    if (this != &other) {
      clear();
      first_ = cursor_ = std::exchange(other.first_, nullptr);
      index_ = 0;
    }
    return *this;
  }
  ~FrameLoans() { clear(); }

  void clear() noexcept;
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::uint32_t count() const noexcept;
  // nullptr: there is no such loan. Leaves come in order, so the next one is found at once.
  [[nodiscard]] Loan* at(std::uint32_t index) noexcept;

 private:
  Loan* first_ = nullptr;
  Loan* cursor_ = nullptr;
  std::uint32_t index_ = 0;  // of the cursor
};

// The loans of a frame in the making, first to last. The lender's: it frees what was never sent.
class LoanChain {
 public:
  [[nodiscard]] Loan* first() const noexcept { return first_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] bool full() const noexcept { return count_ == kMaxLoans; }
  // The loan's index.
  std::uint32_t add(Loan& loan) noexcept {
    loan.next = nullptr;
    (last_ ? last_->next : first_) = &loan;
    last_ = &loan;
    return count_++;
  }
  // All of them; the chain is empty then.
  [[nodiscard]] Loan* take() noexcept {
    Loan* const taken = first_;
    *this = LoanChain();
    return taken;
  }

 private:
  Loan* first_ = nullptr;
  Loan* last_ = nullptr;
  std::uint32_t count_ = 0;
};

// One ring's frames that are left behind.
struct LeftBehind {
  std::atomic<std::uint32_t>& word;
  std::atomic<std::uint64_t>& swept;
  std::uint8_t* ring;
  std::size_t size;
  const std::atomic<std::uint64_t>& tail;
  std::atomic<std::uint64_t>& head;

  // The receiver: it takes no more frames, on no thread.
  void leave() noexcept;
  // The sender, after it has published a frame with loans.
  void look_after() noexcept;
};

}  // namespace typhon::channel
