#include "os/process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "os/memory.h"

namespace typhon::os {
namespace {

// A child that runs `body` and exits with what it returns.
template <class Body>
pid_t start(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  return pid;
}

int status_of(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int wait_for_ever() {
  for (;;) ::pause();
}

TEST(OsProcess, ItsDescriptorTellsThatAProcessHasEnded) {
  const pid_t pid = start(wait_for_ever);
  const UniqueFd process = open_process(pid);
  if (!process.valid() && errno == ENOSYS) {
    ::kill(pid, SIGKILL);
    status_of(pid);
    GTEST_SKIP() << "no descriptors of processes here";
  }
  ASSERT_TRUE(process.valid());
  pollfd event{process.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&event, 1, 0), 0);
  EXPECT_TRUE(send_signal(process.get(), 0));
  EXPECT_TRUE(send_signal(process.get(), SIGKILL));
  EXPECT_EQ(::poll(&event, 1, -1), 1);
  EXPECT_EQ(status_of(pid), -SIGKILL);
  EXPECT_FALSE(send_signal(process.get(), SIGKILL)) << "nobody else's, whoever has the id now";
  EXPECT_EQ(errno, ESRCH);
  EXPECT_FALSE(open_process(pid).valid());
  EXPECT_EQ(errno, ESRCH);
}

TEST(OsProcess, KnowsItsParent) {
  EXPECT_EQ(parent_of(::getpid()), ::getppid());
  const pid_t pid = start([] { return parent_of(::getpid()) == ::getppid() ? 0 : 1; });
  EXPECT_EQ(parent_of(pid), ::getpid());
  EXPECT_EQ(status_of(pid), 0);
  EXPECT_EQ(parent_of(pid), 0) << "it has ended";
}

TEST(OsProcess, OpensWhatAnotherProcessHasOpen) {
  const UniqueFd memory = make_shared_memory("os_test");
  ASSERT_TRUE(memory.valid() && set_size(memory.get(), 100));
  const int number = memory.get();
  const pid_t pid = start([&] {
    const UniqueFd theirs = open_descriptor_of(::getppid(), number, Access::kReadWrite);
    return theirs.valid() && size_of(theirs.get()) == 100 && ::pwrite(theirs.get(), "x", 1, 0) == 1 ? 0 : 1;
  });
  EXPECT_EQ(status_of(pid), 0);
  char byte = 0;
  EXPECT_EQ(::pread(memory.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_FALSE(open_descriptor_of(::getpid(), 999'999, Access::kWrite).valid());
  EXPECT_EQ(errno, ENOENT);
}

TEST(OsProcess, GoesOnWhenItsParentEnds) {
  // The grandchild stops itself; that its parent has ended lets it go on, and close the pipe.
  UniqueFd out;
  UniqueFd in;
  ASSERT_TRUE(make_pipe(out, in));
  const pid_t parent = start([&] {
    const pid_t child = start([&] {
      go_on_when_parent_ends();
      ::kill(::getpid(), SIGSTOP);
      return ::write(in.get(), "x", 1) == 1 ? 0 : 1;
    });
    int status = 0;
    return ::waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) ? 0 : 1;
  });
  in.reset();
  EXPECT_EQ(status_of(parent), 0);
  char byte = 0;
  EXPECT_EQ(::read(out.get(), &byte, 1), 1);
}

TEST(OsProcess, LimitsAreNeverRaised) {
  const pid_t pid = start([] {
    if (!set_limit(Limit::kDescriptors, 50, 60) || limit_of(Limit::kDescriptors) != 50) return 1;
    if (!set_limit(Limit::kDescriptors, 1000, 1000) || limit_of(Limit::kDescriptors) != 60) return 2;
    if (!set_limit(Limit::kDescriptors, 10) || limit_of(Limit::kDescriptors) != 10) return 3;
    if (!set_limit(Limit::kDescriptors, kNoLimit) || limit_of(Limit::kDescriptors) != 60) return 4;
    return 0;
  });
  EXPECT_EQ(status_of(pid), 0);
}

TEST(OsProcess, GivesWay) {
  const pid_t pid = start([] { return set_nice(7) && ::nice(0) == 7 ? 0 : 1; });
  EXPECT_EQ(status_of(pid), 0);
}

TEST(OsProcess, ASizeBeyondTheLimitIsAnErrorAndNoSignal) {
  const pid_t pid = start([] {
    const UniqueFd memory = make_shared_memory("os_test");
    if (!set_limit(Limit::kFileSize, 1 << 20)) return 1;
    if (set_size(memory.get(), 2 << 20) || errno != EFBIG) return 2;
    return set_size(memory.get(), 1 << 20) ? 0 : 3;
  });
  EXPECT_EQ(status_of(pid), 0);
}

}  // namespace
}  // namespace typhon::os
