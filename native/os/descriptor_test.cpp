#include "os/descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <utility>

namespace typhon::os {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
bool closes_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

TEST(OsDescriptor, ClosesWhatItOwnsOnce) {
  UniqueFd out;
  UniqueFd in;
  ASSERT_TRUE(make_pipe(out, in));
  const int number = out.get();
  UniqueFd moved = std::move(out);
  EXPECT_FALSE(out.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_TRUE(is_open(number));
  moved = UniqueFd();
  EXPECT_FALSE(is_open(number));
  const int released = in.release();
  EXPECT_FALSE(in.valid());
  EXPECT_TRUE(is_open(released));
  in.reset(released);
  in.reset();
  EXPECT_FALSE(is_open(released));
}

TEST(OsDescriptor, NothingIsInheritedByAProgram) {
  UniqueFd out;
  UniqueFd in;
  UniqueFd one;
  UniqueFd other;
  ASSERT_TRUE(make_pipe(out, in));
  ASSERT_TRUE(make_message_pair(one, other));
  const UniqueFd again = duplicate(out.get());
  for (const int fd : {out.get(), in.get(), one.get(), other.get(), again.get()})
    EXPECT_TRUE(closes_on_exec(fd));
}

TEST(OsDescriptor, ADuplicateHasANumberOfItsOwn) {
  UniqueFd out;
  UniqueFd in;
  ASSERT_TRUE(make_pipe(out, in));
  const UniqueFd aside = duplicate(in.get(), 100);
  ASSERT_TRUE(aside.valid());
  EXPECT_GE(aside.get(), 100);
  in.reset();
  EXPECT_EQ(::write(aside.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(out.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_FALSE(duplicate(-1).valid());
  EXPECT_EQ(errno, EBADF);
}

TEST(OsDescriptor, ANonblockingReaderDoesNotWait) {
  UniqueFd out;
  UniqueFd in;
  ASSERT_TRUE(make_pipe(out, in));
  ASSERT_TRUE(set_nonblocking(out.get()));
  char byte = 0;
  EXPECT_LT(::read(out.get(), &byte, 1), 0);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_FALSE(set_nonblocking(-1));
}

TEST(OsDescriptor, MessagesKeepTheirBounds) {
  UniqueFd one;
  UniqueFd other;
  ASSERT_TRUE(make_message_pair(one, other));
  EXPECT_EQ(::write(one.get(), "first", 5), 5);
  EXPECT_EQ(::write(one.get(), "second", 6), 6);
  char bytes[64];
  EXPECT_EQ(::read(other.get(), bytes, sizeof bytes), 5);
  EXPECT_EQ(::read(other.get(), bytes, sizeof bytes), 6);
}

}  // namespace
}  // namespace typhon::os
