// For tests and fuzzers: a lender and its borrower in one, that keeps what was lent.
#pragma once

#include "python/codec.h"
#include "python/ref.h"

#include <deque>
#include <span>

namespace typhon::python {

class TestLoans final : public LentBinaries, public BinaryLender {
 public:
  explicit TestLoans(std::size_t at_least = 1024) noexcept : at_least_(at_least) {}

  [[nodiscard]] std::uint32_t count() const noexcept override {
    return static_cast<std::uint32_t>(loans_.size());
  }
  std::span<const std::uint8_t> bytes(std::uint32_t index) noexcept override { return loans_[index].bytes; }
  PyObject* owner(std::uint32_t index) noexcept override {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(loans_[index].bytes.data()),
                                     static_cast<Py_ssize_t>(loans_[index].bytes.size()));
  }
  [[nodiscard]] std::size_t at_least() const noexcept override { return at_least_; }
  [[nodiscard]] bool is_immutable(PyObject* owner) const noexcept override {
    return PyBytes_CheckExact(owner) != 0;
  }
  bool lend(PyObject* owner, std::span<const std::uint8_t> bytes, std::uint32_t& index) noexcept override {
    index = count();
    loans_.push_back({PyRef::borrow(owner), bytes});
    return true;
  }
  void add(std::span<const std::uint8_t> bytes) { loans_.push_back({{}, bytes}); }

 private:
  struct Loan {
    PyRef owner;
    std::span<const std::uint8_t> bytes;
  };
  std::size_t at_least_;
  std::deque<Loan> loans_;
};

}  // namespace typhon::python
