// What a namespace finds in place of a few functions of its libc: the first library of the namespace, so that
// its symbols come before all others'. They are for C code, which asks nobody in Python.
//
// The library is loaded as a copy in which the library that it needs has the path of the namespace's
// libpython (native/embed/namespace.cpp). What libpython exports is in the global scope of the namespace
// then, too: extension modules find it that are not linked to it.
//
// dlopen: in a namespace RTLD_GLOBAL ends the process (glibc has no list to add to), so it is left out, which
// costs only those libraries something that look for symbols of others without naming them. A null name
// means the program, which is not the BEAM here, but the namespace with its Python.
//
// sigaction, pthread_sigmask and their kin: a signal of the whole process is the BEAM's. A handler would run
// on any thread, with the libc and the descriptors of that thread; so the BEAM's do not run on Python's
// threads, where the signals stay blocked, and Python's and its libraries' are refused.
//
// execve and its kin: a child does not inherit that the BEAM's signals are blocked; and the BEAM itself does
// not become another program.
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

namespace {

using Dlopen = void* (*)(const char*, int);
using Sigaction = int (*)(int, const struct sigaction*, struct sigaction*);
using Sigmask = int (*)(int, const sigset_t*, sigset_t*);
using Execve = int (*)(const char*, char* const*, char* const*);

// The function of the namespace's libc. Found when it is first wanted, which may be before the constructor.
template <class Function>
class Next {
 public:
  constexpr explicit Next(const char* name) noexcept : name_(name) {}
  Function get() noexcept {
    Function function = found_.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name_));
      found_.store(function, std::memory_order_relaxed);
    }
    return function;
  }

 private:
  const char* name_;
  std::atomic<Function> found_{nullptr};
};

Next<Dlopen> next_dlopen("dlopen");
Next<Sigaction> next_sigaction("sigaction");
Next<Sigmask> next_pthread_sigmask("pthread_sigmask");
Next<Sigmask> next_sigprocmask("sigprocmask");
Next<Execve> next_execve("execve");
Next<Execve> next_execvpe("execvpe");

// A copy of this process that is to become another program may do what it likes. It may share this memory
// (vfork).
pid_t beam_pid = 0;

bool in_the_beam() noexcept { return ::getpid() == beam_pid; }

bool same_action(const struct sigaction& left, const struct sigaction& right) noexcept {
  return (left.sa_flags & SA_SIGINFO) == (right.sa_flags & SA_SIGINFO) && left.sa_handler == right.sa_handler;
}

// What says that this very thread did something wrong is the thread's, as in bridge.cpp; of the real-time
// signals Typhon alone uses any.
bool is_beams(int signal) noexcept {
  if (signal <= 0 || signal >= SIGRTMIN) return false;
  switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGSYS:
      return false;
    default:
      return true;
  }
}

// A library that is refused goes on, and its user would wonder.
void tell(int signal) noexcept {
  char text[256];
  const int size = std::snprintf(text, sizeof text,
                                 "typhon: C code asked for a handler of signal %d (%s) and was refused "
                                 "(EPERM): inside the BEAM signals are "
                                 "the BEAM's; with isolation: :process they are Python's\n",
                                 signal, ::strsignal(signal));
  if (size <= 0) return;
  static_cast<void>(!::write(STDERR_FILENO, text, std::min(static_cast<std::size_t>(size), sizeof text - 1)));
}

// Real-time signals that have a handler are Typhon's, which sets it by way of libpython; Python code cannot.
bool is_pythons(const void* caller) noexcept {
  Dl_info library{};
  Dl_info python{};
  return ::dladdr(caller, &library) != 0 &&
         ::dladdr(::dlsym(RTLD_DEFAULT, "Py_IsInitialized"), &python) != 0 &&
         library.dli_fbase == python.dli_fbase;
}

bool may_change(int signal, const struct sigaction& now, const void* caller) noexcept {
  return signal >= SIGRTMIN && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN || is_pythons(caller));
}

int set_action(int signal, const struct sigaction* action, struct sigaction* before,
               const void* caller) noexcept {
  const Sigaction true_sigaction = next_sigaction.get();
  if (action == nullptr || !(is_beams(signal) || signal >= SIGRTMIN) || !in_the_beam())
    return true_sigaction(signal, action, before);
  struct sigaction now {};
  if (true_sigaction(signal, nullptr, &now) != 0) return -1;
  if (may_change(signal, now, caller)) return true_sigaction(signal, action, before);
  if (before != nullptr) *before = now;
  if (same_action(*action, now)) return 0;
  tell(signal);
  errno = EPERM;
  return -1;
}

sighandler_t set_handler(int signal, sighandler_t handler, int flags, const void* caller) noexcept {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  return set_action(signal, &action, &before, caller) == 0 ? before.sa_handler : SIG_ERR;
}

// Which of the BEAM's signals this thread's code has blocked, which makes no difference to the thread, but is
// what the code is told, and what its children inherit.
thread_local sigset_t chosen{};

template <class Function>
void for_beams(Function function) noexcept {
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    if (is_beams(signal)) function(signal);
  }
}

void put(sigset_t& set, int signal, bool is_member) noexcept {
  static_cast<void>(is_member ? ::sigaddset(&set, signal) : ::sigdelset(&set, signal));
}

// The child that has its own mask.
thread_local pid_t own_child = 0;

// In a child, before it looks at its mask or is another program: it is what its code has chosen.
void begin_child() noexcept {
  if (own_child == ::getpid()) return;
  own_child = ::getpid();
  sigset_t mask{};
  next_pthread_sigmask.get()(SIG_BLOCK, nullptr, &mask);
  for_beams([&](int signal) { put(mask, signal, ::sigismember(&chosen, signal) == 1); });
  next_pthread_sigmask.get()(SIG_SETMASK, &mask, nullptr);
}

int set_mask(Next<Sigmask>& next, int how, const sigset_t* mask, sigset_t* before) noexcept {
  if (!in_the_beam()) {
    begin_child();
    return next.get()(how, mask, before);
  }
  own_child = 0;
  sigset_t ours{};
  if (mask != nullptr) {
    ours = *mask;
    for_beams([&](int signal) { put(ours, signal, how == SIG_SETMASK); });
  }
  sigset_t old{};
  const int result = next.get()(how, mask != nullptr ? &ours : nullptr, &old);
  if (result != 0) return result;
  for_beams([&](int signal) {
    put(old, signal, ::sigismember(&chosen, signal) == 1);
    const bool named = mask != nullptr && ::sigismember(mask, signal) == 1;
    if (mask != nullptr && (named || how == SIG_SETMASK)) put(chosen, signal, named && how != SIG_UNBLOCK);
  });
  if (before != nullptr) *before = old;
  return 0;
}

// False: not to be done, and errno says why. Handlers go before signals may come, as they are the BEAM's; and
// so does what the BEAM ignores, and Typhon when it is late (run_worker.cpp).
bool prepare_program() noexcept {
  if (in_the_beam()) {
    errno = EPERM;
    return false;
  }
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (next_sigaction.get()(signal, nullptr, &action) != 0 || action.sa_handler == SIG_DFL ||
        (action.sa_handler == SIG_IGN && signal != SIGFPE && signal < SIGRTMIN))
      continue;
    action = {};
    action.sa_handler = SIG_DFL;
    next_sigaction.get()(signal, &action, nullptr);
  }
  begin_child();
  return true;
}

// As the loader knows it: the first library of the namespace, in whose name the others' symbols are found,
// too.
__attribute__((noinline)) const char* this_library() noexcept {
  Dl_info self{};
  return ::dladdr(reinterpret_cast<void*>(&this_library), &self) != 0 ? self.dli_fname : nullptr;
}

__attribute__((constructor)) void remember_the_beam() noexcept { beam_pid = ::getpid(); }

}  // namespace

#define TYPHON_INSTEAD __attribute__((visibility("default")))

// NOLINTBEGIN(readability-identifier-naming,readability-inconsistent-declaration-parameter-name)
extern "C" {

// The call at the end has to be a jump (CMakeLists.txt): glibc looks at who called for the namespace, and for
// the paths that the caller's libraries are found by.
TYPHON_INSTEAD void* dlopen(const char* name, int mode) noexcept {
  const Dlopen true_dlopen = next_dlopen.get();
  // glibc has no name to put into its error for a mode that it does not know, and ends the process.
  constexpr int kModes = RTLD_LAZY | RTLD_NOW | RTLD_NOLOAD | RTLD_DEEPBIND | RTLD_GLOBAL | RTLD_NODELETE;
  if ((mode & ~kModes) != 0) return true_dlopen("invalid mode parameter", RTLD_NOW);
  return true_dlopen(name != nullptr ? name : this_library(), mode & ~RTLD_GLOBAL);
}

TYPHON_INSTEAD int sigaction(int signal, const struct sigaction* action, struct sigaction* before) noexcept {
  return set_action(signal, action, before, __builtin_return_address(0));
}

TYPHON_INSTEAD sighandler_t signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, SA_RESTART, __builtin_return_address(0));
}

TYPHON_INSTEAD sighandler_t bsd_signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, SA_RESTART, __builtin_return_address(0));
}

TYPHON_INSTEAD sighandler_t __sysv_signal(int signal, sighandler_t handler) noexcept {
  return set_handler(signal, handler, static_cast<int>(SA_RESETHAND | SA_NODEFER),
                     __builtin_return_address(0));
}

TYPHON_INSTEAD int pthread_sigmask(int how, const sigset_t* mask, sigset_t* before) noexcept {
  return set_mask(next_pthread_sigmask, how, mask, before);
}

TYPHON_INSTEAD int sigprocmask(int how, const sigset_t* mask, sigset_t* before) noexcept {
  return set_mask(next_sigprocmask, how, mask, before);
}

TYPHON_INSTEAD int execve(const char* path, char* const arguments[], char* const variables[]) noexcept {
  return prepare_program() ? next_execve.get()(path, arguments, variables) : -1;
}

TYPHON_INSTEAD int execv(const char* path, char* const arguments[]) noexcept {
  return execve(path, arguments, environ);
}

TYPHON_INSTEAD int execvpe(const char* file, char* const arguments[], char* const variables[]) noexcept {
  return prepare_program() ? next_execvpe.get()(file, arguments, variables) : -1;
}

TYPHON_INSTEAD int execvp(const char* file, char* const arguments[]) noexcept {
  return execvpe(file, arguments, environ);
}
}
// NOLINTEND(readability-identifier-naming,readability-inconsistent-declaration-parameter-name)
