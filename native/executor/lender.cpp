#include "executor/lender.h"

#include <new>
#include <utility>

#include "executor/segment_buffer.h"
#include "os/thread.h"

namespace typhon::executor {
namespace {

// Letting go of an object may run finalisers, which are Python code.
constexpr std::size_t kStack = std::size_t{1} << 20;

}  // namespace

Lender* Lender::create() noexcept {
  auto* lender = new (std::nothrow) Lender;
  if (lender && os::start_thread(&Lender::thread_main, lender, kStack) == 0) return lender;
  delete lender;
  return nullptr;
}

ObjectLoan* Lender::lend(PyObject* owner, std::span<const std::uint8_t> bytes) noexcept {
  auto* loan = new (std::nothrow) ObjectLoan{};
  if (!loan) return nullptr;
  loan->holders.store(1, std::memory_order_relaxed);
  loan->home = &box_;
  loan->data = bytes.data();
  loan->size = bytes.size();
  loan->owner = python::take(owner);
  box_.out.add(loan->size);
  return loan;
}

void Lender::discard(channel::Loan* first) noexcept {
  while (first) {
    auto* loan = static_cast<ObjectLoan*>(std::exchange(first, first->next));
    box_.out.remove(loan->size);
    python::drop(loan->owner);
    delete loan;
  }
}

// Its thread state lives only while it is needed: to Python this is no thread that a worker has left running.
void* Lender::thread_main(void* self) noexcept {
  auto* lender = static_cast<Lender*>(self);
  while (lender->box_.wait()) {
    PyThreadState* const state = PyThreadState_New(lender->interpreter_);
    if (!state) continue;
    PyEval_AcquireThread(state);
    lender->collect();
    PyThreadState_Clear(state);
    PyEval_ReleaseThread(state);
    PyThreadState_Delete(state);
    lender->tell_listener();
  }
  return nullptr;
}

void Lender::tell_listener() noexcept {
  const std::lock_guard lock(listener_mutex_);
  if (listener_) listener_->freed();
}

bool Lending::is_immutable(PyObject* owner) const noexcept {
  return PyBytes_CheckExact(owner) != 0 || is_loan_buffer(buffer_type_, owner);
}

bool Lending::lend(PyObject* owner, std::span<const std::uint8_t> bytes, std::uint32_t& index) noexcept {
  if (!lender_ || loans_.full()) return false;
  ObjectLoan* const loan = lender_->lend(owner, bytes);
  if (!loan) return false;
  index = loans_.add(*loan);
  return true;
}

std::span<const std::uint8_t> Lent::bytes(std::uint32_t index) noexcept {
  const channel::Loan* const loan = loans_.at(index);
  return loan ? std::span(loan->data, loan->size) : std::span<const std::uint8_t>();
}

PyObject* Lent::owner(std::uint32_t index) noexcept {
  channel::Loan* const loan = loans_.at(index);
  if (loan) return make_loan_buffer(buffer_type_, *loan).release();
  PyErr_SetString(PyExc_SystemError, "a request names a loan that did not come with it");
  return nullptr;
}

}  // namespace typhon::executor
