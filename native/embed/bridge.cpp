// The inner side of a namespace: the first thread of its Python, and those of its sub-interpreters.
//
// This library and the libpython beside it were loaded by dlmopen, with a libc of their own. The BEAM's
// memory is all around, but nothing here calls the BEAM, and the BEAM calls nothing here but
// typhon_bridge_start.
//
// The thread, and all that it starts, has file descriptors and a current directory of its own
// (unshare): what Python code opens, closes, prints to descriptor 1 or does with os.chdir stays in its
// interpreter. Signals that are meant for the BEAM do not land here.
//
// A namespace is one of two things: a Python that runs jobs, or the host of sub-interpreters (Python 3.12 and
// newer). A host's own interpreter runs no code. Each sub-interpreter has a GIL, a thread, descriptors and a
// directory of its own; the C library, with its environment variables and its malloc, is one for all of them.
#include "embed/bridge.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/descriptor.h"
#include "os/thread.h"

// The few functions of Python's ABI that are needed to start one; the headers' own declarations of them
// depend on the version.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
struct PyObjectTag;
void Py_SetProgramName(const wchar_t* name) __attribute__((weak));
extern int Py_UTF8Mode __attribute__((weak));
wchar_t* Py_DecodeLocale(const char* text, std::size_t* size);
void Py_InitializeEx(int initsigs);
PyObjectTag* PyUnicode_DecodeFSDefault(const char* text);
int PySys_SetObject(const char* name, PyObjectTag* value);
int PyRun_SimpleString(const char* code);
void* PyEval_SaveThread(void);

// Python 3.12 and newer, the same up to now.
struct PyThreadStateTag;
struct PyStatusTag {
  int type;  // 0: it worked
  const char* function;
  const char* message;
  int exit_code;
};
struct PyInterpreterConfigTag {
  int use_main_obmalloc;
  int allow_fork;
  int allow_exec;
  int allow_threads;
  int allow_daemon_threads;
  int check_multi_interp_extensions;
  int gil;  // 2: its own
};
PyStatusTag Py_NewInterpreterFromConfig(PyThreadStateTag** state, const PyInterpreterConfigTag* config)
    __attribute__((weak));
}
// NOLINTEND(readability-identifier-naming)

namespace typhon::embed {
namespace {

constexpr int kSocket = 3;
// Address space, until it is used. Where it ends the BEAM ends: python/typhon/_embedded.py keeps recursion
// within it.
constexpr std::size_t kStack = std::size_t{64} << 20;
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
  bool host;
};

// What Python code is told of its namespace.
struct Found {
  std::string libpython;
  std::string package;
  const char* locale;  // what LC_CTYPE was set to, as the environment had none; or ""
};

// What all sub-interpreters of a namespace are made of. There for the rest of the process.
struct Host {
  Found found;
  std::mutex creating;  // Python makes one interpreter at a time
};

struct Spawn {
  Host* host;
  int socket;
};

// Who starts a thread waits until that has its own descriptors, or says that it never will: then it has all
// that it needs of `argument`.
struct Departure {
  void* argument;
  sem_t left;
  int failed;
};

// 0 or an errno. The thread calls depart() first.
int start_and_wait(void* (*main)(void*), void* argument) noexcept {
  Departure departure{argument, {}, 0};
  ::sem_init(&departure.left, 0, 0);
  if (const int failed = os::start_thread(main, &departure, kStack); failed != 0) return failed;
  while (::sem_wait(&departure.left) != 0) {
  }
  ::sem_destroy(&departure.left);
  return departure.failed;
}

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

// 0 or an errno: then the thread shares the others' descriptors still, and must not go on.
int leave_the_others(int socket, bool& own_directory) noexcept {
  if (!own_descriptors()) return errno;
  own_directory = ::unshare(CLONE_FS) == 0;
  if (socket != kSocket && ::dup2(socket, kSocket) < 0) return errno;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return errno;
  for (int fd = 0; fd < kSocket; ++fd) ::dup2(null, fd);
  close_from(kSocket + 1);
  ::fcntl(kSocket, F_SETFD, FD_CLOEXEC);
  return 0;
}

// Of those that were blocked while this thread was made the BEAM's stay so (guard.cpp).
void block_signals() noexcept {
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

void set_environment(const std::vector<std::string>& variables) noexcept {
  ::clearenv();
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=', 1);
    if (equals == std::string::npos) continue;
    ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
  }
}

// The names that a locale with UTF-8 and no language has.
constexpr const char* kUtf8Locales[] = {"C.UTF-8", "C.utf8", "UTF-8"};

bool is_legacy_locale() noexcept {
  const char* now = ::setlocale(LC_CTYPE, nullptr);
  return now == nullptr || std::strcmp(now, "C") == 0 || std::strcmp(now, "POSIX") == 0;
}

const char* variable(const char* name) noexcept {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

bool is(const char* value, const char* other) noexcept { return value && std::strcmp(value, other) == 0; }

// The locale and the UTF-8 mode that `python` would have in this environment (PEP 538, PEP 540): what
// libpython does by itself when it is embedded knows neither. Returns the LC_CTYPE that was put in place of
// none.
const char* set_locale() noexcept {
  ::setlocale(LC_CTYPE, "");
  const bool legacy = is_legacy_locale();
  const char* mode = variable("PYTHONUTF8");
  if (&Py_UTF8Mode) Py_UTF8Mode = is(mode, "1") || (legacy && !is(mode, "0")) ? 1 : 0;
  if (!legacy || variable("LC_ALL") || is(variable("PYTHONCOERCECLOCALE"), "0")) return nullptr;
  for (const char* name : kUtf8Locales) {
    if (!::setlocale(LC_CTYPE, name)) continue;
    ::setenv("LC_CTYPE", name, 1);
    return name;
  }
  return nullptr;
}

// Python keeps the pointer.
const wchar_t* decoded(const std::string& path) noexcept {
  const std::string before = ::setlocale(LC_CTYPE, nullptr);
  for (const char* name : kUtf8Locales) {
    if (!is_legacy_locale() || !&Py_UTF8Mode || Py_UTF8Mode == 0 || ::setlocale(LC_CTYPE, name)) break;
  }
  const wchar_t* text = Py_DecodeLocale(path.c_str(), nullptr);
  ::setlocale(LC_CTYPE, before.c_str());
  return text;
}

// False: the thread must not go on. The departure is gone in any case.
bool depart(Departure& departure, int socket, bool& own_directory) noexcept {
  const int failed = leave_the_others(socket, own_directory);
  departure.failed = failed;
  ::sem_post(&departure.left);
  if (failed == 0) block_signals();
  return failed == 0;
}

// What the package finds in sys, where no user code looks.
void set_name(const char* name, const char* text) noexcept {
  PySys_SetObject(name, PyUnicode_DecodeFSDefault(text));
}

// Runs jobs until the other end of the socket is closed. Python cannot be taken down and set up again in one
// process: it stays as it is then, and nothing runs in it.
void serve_jobs(const Found& found, bool own_directory, bool is_sub) noexcept {
  set_name("_typhon_libpython", found.libpython.c_str());
  set_name("_typhon_package", found.package.c_str());
  set_name("_typhon_locale", found.locale);
  set_name("_typhon_own_directory", own_directory ? "1" : "");
  set_name("_typhon_sub", is_sub ? "1" : "");
  PyRun_SimpleString(kBootstrap);
  PyEval_SaveThread();
  ::close(kSocket);
}

// {"failed", text} for the registry (lib/typhon/interpreters.ex), as an External Term Format term.
void tell_failure(std::string_view text) noexcept {
  constexpr std::string_view kHead(
      "\x83\x68\x02\x6d\x00\x00\x00\x06"
      "failed"
      "\x6d\x00\x00",
      17);
  text = text.substr(0, 1024);
  std::string message(kHead);
  message += static_cast<char>(text.size() >> 8);
  message += static_cast<char>(text.size() & 0xff);
  message += text;
  static_cast<void>(::send(kSocket, message.data(), message.size(), MSG_NOSIGNAL));
}

void* sub_interpreter_main(void* raw) noexcept {
  auto& departure = *static_cast<Departure*>(raw);
  const Spawn spawn = *static_cast<Spawn*>(departure.argument);
  ::pthread_setname_np(::pthread_self(), "typhon-python");
  bool own_directory = false;
  if (!depart(departure, spawn.socket, own_directory)) return nullptr;
  PyThreadStateTag* state = nullptr;
  PyStatusTag made{};
  {
    // Not on a thread that has a state of the host's interpreter: then the state that Python finds for this
    // thread (PyGILState_Ensure) is the new one's.
    std::lock_guard lock(spawn.host->creating);
    const PyInterpreterConfigTag config{.use_main_obmalloc = 0,
                                        .allow_fork = 1,  // typhon._embedded refuses it in its own words
                                        .allow_exec = 1,
                                        .allow_threads = 1,
                                        .allow_daemon_threads = 1,
                                        .check_multi_interp_extensions = 1,
                                        .gil = 2};
    made = Py_NewInterpreterFromConfig(&state, &config);
  }
  if (made.type != 0 || state == nullptr) {
    tell_failure(made.message ? made.message : "Python does not say why");
    ::close(kSocket);
    return nullptr;
  }
  serve_jobs(spawn.host->found, own_directory, true);
  return nullptr;
}

// The descriptor that a message brings; -1: none, and the other end may be closed.
int receive_descriptor(bool& closed) noexcept {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(kSocket, &header, MSG_CMSG_CLOEXEC);
  closed = count == 0 || (count < 0 && errno != EINTR);
  const cmsghdr* rights = count > 0 ? CMSG_FIRSTHDR(&header) : nullptr;
  if (!rights || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
  return fd;
}

// On the host's own thread, which has let go of its GIL for good. A socket that gets no interpreter is
// closed, which says so.
void serve_spawns(Host& host) noexcept {
  for (bool closed = false; !closed;) {
    const os::UniqueFd socket(receive_descriptor(closed));
    if (!socket.valid()) continue;
    Spawn spawn{&host, socket.get()};
    static_cast<void>(start_and_wait(&sub_interpreter_main, &spawn));
  }
}

void* interpreter_main(void* raw) noexcept {
  auto& departure = *static_cast<Departure*>(raw);
  const Start start = std::move(*static_cast<Start*>(departure.argument));
  ::pthread_setname_np(::pthread_self(), start.host ? "typhon-host" : "typhon-python");
  bool own_directory = false;
  if (!depart(departure, start.socket, own_directory)) return nullptr;
  set_environment(start.environment);
  for (int i = 0; i < kReservedKeys; ++i) {
    pthread_key_t key{};
    ::pthread_key_create(&key, nullptr);
  }
  const char* const locale = set_locale();
  if (Py_SetProgramName) {
    if (const wchar_t* program = decoded(start.program)) Py_SetProgramName(program);
  }
  Py_InitializeEx(0);
  // The library of this very namespace: others may have been loaded from elsewhere.
  Dl_info library{};
  ::dladdr(reinterpret_cast<void*>(&Py_InitializeEx), &library);
  const Found found{library.dli_fname, start.package, locale ? locale : ""};
  if (!start.host) {
    serve_jobs(found, own_directory, false);
    return nullptr;
  }
  PyEval_SaveThread();
  if (!Py_NewInterpreterFromConfig) {
    tell_failure("this Python is older than 3.12, and has no interpreters with a GIL of their own");
  } else if (auto* const host = new (std::nothrow) Host{found, {}}) {
    serve_spawns(*host);
  }
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
  Start start{spec->program, spec->package, {}, spec->socket, spec->host != 0};
  for (const char* const* variable = spec->environment; *variable != nullptr; ++variable)
    start.environment.emplace_back(*variable);
  return typhon::embed::start_and_wait(&typhon::embed::interpreter_main, &start);
}
