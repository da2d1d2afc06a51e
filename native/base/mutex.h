// Mutex and Lock: those of the C++ library, as Clang's analysis wants them (base/thread_annotations.h).
#pragma once

#include <mutex>

#include "base/thread_annotations.h"

namespace typhon {

class TYPHON_CAPABILITY("mutex") Mutex {
 public:
  void lock() noexcept TYPHON_ACQUIRE() { mutex_.lock(); }
  void unlock() noexcept TYPHON_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a mutex, of whatever kind, until its end or until unlock().
template <class Mutex>
class TYPHON_SCOPED_CAPABILITY Lock {
 public:
  explicit Lock(Mutex& mutex) noexcept TYPHON_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() TYPHON_RELEASE() {
    if (held_) mutex_.unlock();
  }
  void lock() noexcept TYPHON_ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }
  void unlock() noexcept TYPHON_RELEASE() {
    held_ = false;
    mutex_.unlock();
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

}  // namespace typhon
