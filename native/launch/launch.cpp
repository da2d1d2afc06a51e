// typhon_launch <beam pid> <fd> <onto> <program> [argument …]: becomes the program of a worker, with its
// output on a pipe that the BEAM reads as it likes.
//
// A Port reads its program's stdout as fast as that writes, into the mailbox of the process that owns it. So
// the Port keeps stdin and the exit status, and what is printed, from the program's first byte on, goes to
// the pipe with the number <fd> of the BEAM's. It is opened from there, like the memory of a channel.
// <onto>: the descriptors that become the pipe, "1,2" for stdout and stderr.
//
// What goes wrong is a sentence on the Port's own stdout, which the program never has, and an exit status:
// kNoOutput, or kNoProgram.

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "os/descriptor.h"
#include "os/process.h"

namespace {

namespace os = typhon::os;

constexpr int kNoOutput = 98;
constexpr int kNoProgram = 126;
constexpr int kArguments = 5;

// A descriptor's number, of those that our own side has written; -1, which is none, for anything else.
int number(const char* text) noexcept {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && value >= 0 && value <= INT_MAX ? static_cast<int>(value) : -1;
}

// The program is not to have it, and it is to be in nobody's way.
os::UniqueFd keep_aside(int fd) noexcept { return os::duplicate(fd, 10); }

int complain(int fd, int status, const char* what) noexcept {
  static_cast<void>(::dprintf(fd, "%s%s\n", what, std::strerror(errno)));
  return status;
}

bool redirect(int pipe, const char* onto) noexcept {
  for (const char* next = onto; next; next = std::strchr(next, ',')) {
    if (*next == ',') ++next;
    if (::dup2(pipe, number(next)) < 0) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < kArguments) return kNoProgram;
  const char* const onto = argv[3];
  char** const program = argv + kArguments - 1;
  const os::UniqueFd report = keep_aside(number(onto));
  os::UniqueFd opened = os::open_descriptor_of(number(argv[1]), number(argv[2]), os::Access::kWrite);
  // One of those that it is to become may have been closed, and is this one then.
  const os::UniqueFd pipe = opened.valid() ? keep_aside(opened.get()) : os::UniqueFd();
  opened.reset();
  if (!pipe.valid() || !redirect(pipe.get(), onto))
    return complain(report.get(), kNoOutput, "the BEAM's pipe for its output cannot be opened: ");
  // A worker that has been stopped (SIGSTOP) when the BEAM ends goes on, and so sees that it has ended. This
  // is kept by the program, and means nothing to one that runs.
  os::go_on_when_parent_ends();
  ::execv(program[0], program);
  return complain(report.get(), kNoProgram, "");
}
