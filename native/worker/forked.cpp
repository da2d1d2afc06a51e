#include "worker/forked.h"

#include <pthread.h>

#include <atomic>

namespace typhon::worker {
namespace {

// Of the process, like the fork itself: the handler gets no argument.
constinit std::atomic<bool> forked{false};

}  // namespace

Status watch_forks() noexcept {
  if (::pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); }) != 0)
    return Error{Code::kSystem, 0, "pthread_atfork: no memory"};
  return Unit{};
}

bool in_forked_child() noexcept { return forked.load(std::memory_order_relaxed); }

}  // namespace typhon::worker
