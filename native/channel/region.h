// Region: one channel's memory, mapped into this process.
//
// The BEAM creates it as a sealed memfd (no name in a file system; neither side can change its size, so no
// access can fault behind the end), the worker attaches to it. Both rings are mapped twice back to back, so
// that a frame never wraps. The arenas are sparse: address space, not memory, until touched. A resource:
// unmaps in its destructor. Its pointers may be used from any thread; who may use which ring is said in
// ring.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "channel/claim.h"
#include "channel/layout.h"
#include "os/descriptor.h"

namespace typhon::channel {

struct RegionOptions {
  std::size_t ring_size = std::size_t{256} * 1024;
  std::size_t arena_size = std::size_t{64} << 30;
  std::uint32_t worker_spin_us = 20;
  std::uint32_t flags = 0;
  std::uint64_t max_result = UINT64_MAX;
};

class Region {
 public:
  // A new region, zeroed. Its arenas are whole pages of this machine: `arena_size` is rounded up to them.
  // When the address space is limited, a smaller arena is tried, down to 64 MiB.
  static Result<std::unique_ptr<Region>> create(const RegionOptions& options) noexcept;

  // The region behind a memfd of another process. Everything in its header is checked.
  static Result<std::unique_ptr<Region>> attach(os::UniqueFd fd) noexcept;

  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  [[nodiscard]] Header& header() const noexcept { return *header_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // Returns the pages of the request arena to the system: what is read there afterwards is zeros.
  void drop_request_arena() noexcept;
  void close_fd() noexcept { fd_.reset(); }
  // Whether memory lies behind each byte of that stretch of the reply arena: a page that was never written is
  // a hole in the file, and reading it would make memory of it. Where the system does not tell, it does.
  [[nodiscard]] bool reply_written(std::uint64_t offset, std::uint64_t length) const noexcept;

  // Sizes as checked when mapped: never read again from the shared header.
  [[nodiscard]] std::size_t ring_size() const noexcept { return ring_size_; }
  [[nodiscard]] std::size_t arena_size() const noexcept { return arena_size_; }
  [[nodiscard]] std::uint64_t max_result() const noexcept { return max_result_; }
  [[nodiscard]] Claims claims() const noexcept { return Claims(claims_); }
  [[nodiscard]] std::uint8_t* request_ring() const noexcept { return request_ring_; }
  [[nodiscard]] std::uint8_t* reply_ring() const noexcept { return reply_ring_; }
  [[nodiscard]] std::uint8_t* request_arena() const noexcept { return request_arena_; }
  [[nodiscard]] std::uint8_t* reply_arena() const noexcept { return reply_arena_; }

 private:
  Region() noexcept = default;
  [[nodiscard]] Status map(std::size_t ring_size, std::size_t arena_size) noexcept;
  void unmap() noexcept;

  os::UniqueFd fd_;
  Header* header_ = nullptr;
  std::atomic<std::uint32_t>* claims_ = nullptr;  // mapped with the header
  std::uint8_t* request_ring_ = nullptr;
  std::uint8_t* reply_ring_ = nullptr;
  std::uint8_t* request_arena_ = nullptr;
  std::uint8_t* reply_arena_ = nullptr;
  std::size_t ring_size_ = 0;
  std::size_t arena_size_ = 0;
  std::uint64_t max_result_ = 0;
};

}  // namespace typhon::channel
