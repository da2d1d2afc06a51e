// What C code does in libraries that are loaded into Python inside the BEAM: test/typhon/guard_test.exs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// 1: the program, as dlopen understands it, has this symbol.
int program_has(const char* symbol) {
  void* program = dlopen(NULL, RTLD_NOW);
  const int found = program != NULL && dlsym(program, symbol) != NULL;
  if (program != NULL) dlclose(program);
  return found;
}

// 1: it can be loaded with its symbols for everybody, and used.
int load_globally(const char* path, const char* symbol) {
  void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  return library != NULL && dlsym(library, symbol) != NULL;
}

// 1: a name without a folder is found by the path that this library has for its own.
int load_by_runpath(const char* name) { return dlopen(name, RTLD_NOW) != NULL; }

static void handler(int signal) { (void)signal; }

// 0 or an errno.
int handle(int signal) {
  struct sigaction action = {0};
  action.sa_handler = handler;
  return sigaction(signal, &action, NULL) == 0 ? 0 : errno;
}

int handle_with_signal(int number) { return signal(number, handler) == SIG_ERR ? errno : 0; }

// 1: it is blocked on this thread, whatever the library says.
static int is_blocked(int number) {
  uint64_t mask = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
  return (int)(mask >> (number - 1) & 1);
}

// 1: after this thread asked for all signals, it does not get this one; but what it is told is what it asked
// for.
int still_blocked(int number) {
  sigset_t set;
  sigset_t told;
  sigemptyset(&set);
  pthread_sigmask(SIG_SETMASK, &set, NULL);
  const int by_set = is_blocked(number);
  sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, &told);
  const int was = sigismember(&told, number);
  sigprocmask(SIG_UNBLOCK, &set, &told);
  const int is = sigismember(&told, number);
  pthread_sigmask(SIG_BLOCK, NULL, &told);
  return by_set && is_blocked(number) && !was && is && !sigismember(&told, number);
}

// The wait status of a child that sends itself a SIGTERM, and exits with 3 when that does not come.
int child_of_its_own(void) {
  const pid_t child = fork();
  if (child == 0) {
    char* const arguments[] = {"sh", "-c", "kill -TERM $$; exit 3", NULL};
    execvp("sh", arguments);
    _exit(4);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return status;
}

// An errno: this process becomes no other.
int become_another(void) {
  char* const arguments[] = {"true", NULL};
  execvp("true", arguments);
  return errno;
}
