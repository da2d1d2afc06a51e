// What the tests of the channel share: small regions, a deterministic source of randomness, and child
// processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "channel/region.h"
#include "channel/ring.h"
#include "os/descriptor.h"
#include "os/memory.h"

namespace typhon::channel::testing {

// Sanitizers cost a factor of ten: the stress tests then run a tenth of their rounds. So they do in a build
// that says so.
#if defined(TYPHON_FEW_ROUNDS) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kStressDivisor = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr std::uint64_t kStressDivisor = 10;
#else
inline constexpr std::uint64_t kStressDivisor = 1;
#endif
#else
inline constexpr std::uint64_t kStressDivisor = 1;
#endif

inline const std::size_t kPageSize = os::page_size();

inline std::unique_ptr<Region> small_region(std::size_t ring_size = kMinRing,
                                            std::size_t arena_size = 1 << 20) {
  RegionOptions options;
  options.ring_size = ring_size;
  options.arena_size = arena_size;
  auto created = Region::create(options);
  return created.ok() ? std::move(created).value() : nullptr;
}

// A second mapping of the same region, as the other process has it.
inline std::unique_ptr<Region> attach_again(const Region& region) {
  auto attached = Region::attach(os::duplicate(region.fd()));
  return attached.ok() ? std::move(attached).value() : nullptr;
}

inline RingProducer request_producer(const Region& region) {
  Header& header = region.header();
  return {region.request_ring(), region.ring_size(), header.request_tail.value, header.request_head.value};
}
inline RingConsumer request_consumer(const Region& region) {
  Header& header = region.header();
  return {region.request_ring(), region.ring_size(), header.request_tail.value, header.request_head.value};
}
inline RingProducer reply_producer(const Region& region) {
  Header& header = region.header();
  return {region.reply_ring(), region.ring_size(), header.reply_tail.value, header.reply_head.value};
}
inline RingConsumer reply_consumer(const Region& region) {
  Header& header = region.header();
  return {region.reply_ring(), region.ring_size(), header.reply_tail.value, header.reply_head.value};
}

// xorshift64*: the same numbers on every machine, so that a failure can be repeated.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
  std::uint64_t next() noexcept {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dU;
  }
  // From 0 to `limit` - 1.
  std::uint64_t below(std::uint64_t limit) noexcept { return next() % limit; }

 private:
  std::uint64_t state_;
};

// A child process that runs `body` and exits with what it returns (0: all is well). Gtest's own assertions do
// not travel back from a child: it reports by its exit code.
class Child {
 public:
  template <class Body>
  explicit Child(Body&& body) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(body());
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) wait();
  }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  // Its exit code, or minus the signal that ended it.
  int wait() noexcept {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

template <class Body>
int run_in_child(Body&& body) {
  return Child(std::forward<Body>(body)).wait();
}

}  // namespace typhon::channel::testing
