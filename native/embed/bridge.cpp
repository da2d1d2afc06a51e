// The inner side of a namespace: the first thread of its Python.
//
// This library and the libpython beside it were loaded by dlmopen, with a libc of their own. The BEAM's
// memory is all around, but nothing here calls the BEAM, and the BEAM calls nothing here but
// typhon_bridge_start.
//
// The thread, and all that it starts, has file descriptors and a current directory of its own
// (unshare): what Python code opens, closes, prints to descriptor 1 or does with os.chdir stays in its
// interpreter. Signals that are meant for the BEAM do not land here.
#include "embed/bridge.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/native_thread.h"

// The few functions of Python's ABI that are needed to start one; the headers' own declarations of them
// depend on the version.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
struct PyObjectTag;
void Py_SetProgramName(const wchar_t* name) __attribute__((weak));
wchar_t* Py_DecodeLocale(const char* text, std::size_t* size);
void Py_InitializeEx(int initsigs);
PyObjectTag* PyUnicode_DecodeFSDefault(const char* text);
int PySys_SetObject(const char* name, PyObjectTag* value);
int PyRun_SimpleString(const char* code);
void* PyEval_SaveThread(void);
}
// NOLINTEND(readability-identifier-naming)

namespace typhon::embed {
namespace {

constexpr int kSocket = 3;
constexpr std::size_t kStack = std::size_t{16} << 20;
// Keys of thread-specific data that the outer libc may use in threads both know: none of them is Python's.
constexpr int kReservedKeys = 64;

constexpr const char* kBootstrap =
    "import sys\n"
    "sys.path.insert(0, sys._typhon_package)\n"
    "from typhon import _embedded\n"
    "_embedded.serve(3)\n";

struct Start {
  std::string program;
  std::string package;
  std::vector<std::string> environment;
  int socket;
  bool own_directory = false;
};

// What typhon_bridge_start waits for: the thread has its own descriptors, or never will.
struct Departure {
  Start* start;
  sem_t left;
  int failed;
};

void close_from(unsigned first) noexcept {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, first, ~0U, 0U) == 0) return;
#endif
  const long limit = ::sysconf(_SC_OPEN_MAX);
  for (int fd = static_cast<int>(first); fd < std::min(limit, 65'536L); ++fd) ::close(fd);
}

// A table of its own. Containers often forbid unshare(), but not this flag of close_range().
bool own_descriptors() noexcept {
  if (::unshare(CLONE_FILES) == 0) return true;
#ifdef SYS_close_range
  constexpr unsigned kUnshare = 1U << 1;  // CLOSE_RANGE_UNSHARE
  return ::syscall(SYS_close_range, ~0U - 1, ~0U, kUnshare) == 0;
#else
  return false;
#endif
}

// 0 or an errno: then the thread shares the BEAM's descriptors still, and must not go on.
int leave_the_others(Start& start) noexcept {
  if (!own_descriptors()) return errno;
  start.own_directory = ::unshare(CLONE_FS) == 0;
  if (start.socket != kSocket && ::dup2(start.socket, kSocket) < 0) return errno;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return errno;
  for (int fd = 0; fd < kSocket; ++fd) ::dup2(null, fd);
  close_from(kSocket + 1);
  ::fcntl(kSocket, F_SETFD, FD_CLOEXEC);
  return 0;
}

// Those that say that this very thread did something wrong cannot be blocked; the rest is the BEAM's.
void block_signals() noexcept {
  sigset_t blocked;
  ::sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS})
    ::sigdelset(&blocked, own);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) ::sigdelset(&blocked, signal);
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

void set_environment(const std::vector<std::string>& variables) noexcept {
  ::clearenv();
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=', 1);
    if (equals == std::string::npos) continue;
    ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
  }
}

void* interpreter_main(void* raw) noexcept {
  auto* departure = static_cast<Departure*>(raw);
  const std::unique_ptr<Start> start(departure->start);
  ::pthread_setname_np(::pthread_self(), "typhon-python");
  const int failed = leave_the_others(*start);
  departure->failed = failed;
  ::sem_post(&departure->left);  // it is gone after that
  if (failed != 0) return nullptr;
  block_signals();
  set_environment(start->environment);
  for (int i = 0; i < kReservedKeys; ++i) {
    pthread_key_t key{};
    ::pthread_key_create(&key, nullptr);
  }
  if (Py_SetProgramName) {
    // Python keeps the pointer.
    if (const wchar_t* program = Py_DecodeLocale(start->program.c_str(), nullptr)) Py_SetProgramName(program);
  }
  Py_InitializeEx(0);
  // The library of this very namespace: others may have been loaded from elsewhere.
  Dl_info library{};
  ::dladdr(reinterpret_cast<void*>(&Py_InitializeEx), &library);
  PySys_SetObject("_typhon_libpython", PyUnicode_DecodeFSDefault(library.dli_fname));
  PySys_SetObject("_typhon_package", PyUnicode_DecodeFSDefault(start->package.c_str()));
  PySys_SetObject("_typhon_own_directory", PyUnicode_DecodeFSDefault(start->own_directory ? "1" : ""));
  PyRun_SimpleString(kBootstrap);
  // Python cannot be taken down and set up again in one process: it stays as it is, and nothing runs in it.
  PyEval_SaveThread();
  ::close(kSocket);
  return nullptr;
}

}  // namespace
}  // namespace typhon::embed

extern "C" __attribute__((visibility("default"))) int typhon_bridge_start(const TyphonBridgeSpec* spec) {
  using typhon::embed::Start;
#if defined(__GLIBC__)
  // This libc's first arena, for all threads: of the others' memory a large block is never kept for the next
  // one.
  ::mallopt(M_ARENA_MAX, 1);
#endif
  auto start = std::unique_ptr<Start>(new (std::nothrow) Start);
  if (!start) return ENOMEM;
  start->program = spec->program;
  start->package = spec->package;
  for (const char* const* variable = spec->environment; *variable != nullptr; ++variable)
    start->environment.emplace_back(*variable);
  start->socket = spec->socket;
  typhon::embed::Departure departure{start.get(), {}, 0};
  ::sem_init(&departure.left, 0, 0);
  const int failed =
      typhon::start_native_thread(&typhon::embed::interpreter_main, &departure, typhon::embed::kStack);
  if (failed != 0) return failed;
  static_cast<void>(start.release());
  while (::sem_wait(&departure.left) != 0) {
  }
  ::sem_destroy(&departure.left);
  return departure.failed;
}
