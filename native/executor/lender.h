// Lender: bytes of this Python that the BEAM reads in place, and binaries of the BEAM that this Python reads.
//
// A loan owns the object whose bytes it lends. When the BEAM has given it back, the object is let go of with
// the GIL: by the thread that serves the next request, or by the Lender's own thread when there is none, also
// between two workers. One for each interpreter that was ever a worker inside the BEAM, and for as long as
// the process: the BEAM's binaries outlive the worker, and may outlive the pool.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "channel/loan.h"
#include "python/codec.h"
#include "python/cpython.h"

namespace typhon::executor {

struct ObjectLoan : channel::Loan {
  PyObject* owner;  // owned
};

// Is told when loans have come back while it serves nothing.
class FreeListener {
 public:
  FreeListener() = default;
  FreeListener(const FreeListener&) = delete;
  FreeListener& operator=(const FreeListener&) = delete;
  virtual void freed() noexcept = 0;

 protected:
  ~FreeListener() = default;
};

// All with the GIL.
class Lender {
 public:
  // nullptr: there is no thread, or no memory, for it; then everything is copied.
  static Lender* create() noexcept;
  Lender(const Lender&) = delete;
  Lender& operator=(const Lender&) = delete;

  // nullptr: no memory. The loan has one holder, the frame that it is for.
  ObjectLoan* lend(PyObject* owner, std::span<const std::uint8_t> bytes) noexcept;
  // A chain that was never sent.
  void discard(channel::Loan* first) noexcept;
  // Lets go of what has come back.
  void collect() noexcept {
    if (box_.has_returned()) discard(box_.collect());
  }
  // The worker that is there now; nullptr: none.
  void listen(FreeListener* listener) noexcept {
    const std::lock_guard lock(listener_mutex_);
    listener_ = listener;
  }

 private:
  Lender() noexcept : interpreter_(PyInterpreterState_Get()) {}
  ~Lender() = default;
  static void* thread_main(void* self) noexcept;
  void tell_listener() noexcept;

  channel::LoanBox box_;
  PyInterpreterState* const interpreter_;
  std::mutex listener_mutex_;
  FreeListener* listener_ = nullptr;  // guarded by listener_mutex_
};

// The loans of one frame in the making. What was not sent is discarded.
class Lending final : public python::BinaryLender {
 public:
  // `lender` nullptr: nothing is lent. `buffer_type`: of views of the BEAM's memory.
  Lending(Lender* lender, PyObject* buffer_type) noexcept : lender_(lender), buffer_type_(buffer_type) {}
  Lending(const Lending&) = delete;
  Lending& operator=(const Lending&) = delete;
  ~Lending() override {
    if (loans_.first()) lender_->discard(loans_.take());
  }

  [[nodiscard]] std::size_t at_least() const noexcept override { return channel::kLendAtLeast; }
  [[nodiscard]] bool is_immutable(PyObject* owner) const noexcept override;
  bool lend(PyObject* owner, std::span<const std::uint8_t> bytes, std::uint32_t& index) noexcept override;

  [[nodiscard]] channel::Loan* first() const noexcept { return loans_.first(); }
  void sent() noexcept { static_cast<void>(loans_.take()); }

 private:
  Lender* lender_;
  PyObject* buffer_type_;
  channel::LoanChain loans_;
};

// The loans of a frame that is being decoded.
class Lent final : public python::LentBinaries {
 public:
  Lent(channel::FrameLoans& loans, PyObject* buffer_type) noexcept
      : loans_(loans), buffer_type_(buffer_type), count_(loans.count()) {}
  [[nodiscard]] std::uint32_t count() const noexcept override { return count_; }
  std::span<const std::uint8_t> bytes(std::uint32_t index) noexcept override;
  PyObject* owner(std::uint32_t index) noexcept override;

 private:
  channel::FrameLoans& loans_;
  PyObject* buffer_type_;
  std::uint32_t count_;
};

}  // namespace typhon::executor
