// AtomRoom: how many atoms Python may still bring into this VM, with `atoms: :create`, of all pools together.
// Atoms are never freed, and the VM ends when its table is full. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace typhon::beam {

class AtomRoom {
 public:
  // The first one counts: later there is less, by what was taken.
  void open(std::int64_t atoms) noexcept {
    std::int64_t unset = kUnset;
    left_.compare_exchange_strong(unset, atoms, std::memory_order_relaxed);
  }
  [[nodiscard]] bool take(std::int64_t atoms) noexcept {
    if (left_.fetch_sub(atoms, std::memory_order_relaxed) >= atoms) return true;
    left_.fetch_add(atoms, std::memory_order_relaxed);
    return false;
  }

 private:
  static constexpr std::int64_t kUnset = -1;
  std::atomic<std::int64_t> left_{kUnset};
};

}  // namespace typhon::beam
