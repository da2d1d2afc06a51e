// UniqueFd: owns one file descriptor and closes it. Move-only. And how descriptors are made: each is closed
// in a program that this process becomes or starts (close-on-exec).
//
// Threads: any; a UniqueFd is used by one at a time. Errors: an invalid descriptor or false, and errno.
#pragma once

#include <unistd.h>

#include <utility>

namespace typhon::os {

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// Another descriptor of the same thing, with the first number from `at_least` on that is free.
[[nodiscard]] UniqueFd duplicate(int fd, int at_least = 0) noexcept;

// Who reads or writes never waits: EAGAIN.
[[nodiscard]] bool set_nonblocking(int fd) noexcept;

// What is written to `in` is read from `out`.
[[nodiscard]] bool make_pipe(UniqueFd& out, UniqueFd& in) noexcept;

// Two ends of a connection whose messages keep their bounds, and carry descriptors.
[[nodiscard]] bool make_message_pair(UniqueFd& one, UniqueFd& other) noexcept;

}  // namespace typhon::os
