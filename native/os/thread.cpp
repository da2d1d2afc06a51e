#include "os/thread.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>

#include "os/memory.h"

namespace typhon::os {

int start_thread(void* (*main)(void*), void* argument, std::size_t stack) noexcept {
  const std::size_t least = std::max(stack, static_cast<std::size_t>(PTHREAD_STACK_MIN));
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  // glibc takes the page that guards a stack from the stack itself.
  ::pthread_attr_setstacksize(&attributes, whole_pages(least) + page_size());
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread{};
  const int failed = ::pthread_create(&thread, &attributes, main, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  return failed;
}

void name_this_thread(const char* name) noexcept { ::pthread_setname_np(::pthread_self(), name); }

void yield_core() noexcept { ::sched_yield(); }

}  // namespace typhon::os
