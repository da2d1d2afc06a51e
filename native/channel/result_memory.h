// ResultMemory: private memory for results that have come in segments.
//
// A worker can write its arena at any time, so the BEAM copies what it is sent before it looks at it, and
// large binaries of the term lie in that copy. Fresh memory costs ten times the copy (each page is a fault),
// so blocks that nobody needs any more are kept warm for the next result: up to kKeep bytes for the whole
// process, and for kIdleNs. Large fresh blocks lie on huge pages.
//
//   take() ──► in use ──► give_back() ──► cached ──► take()
//                              │             │ idle for kIdleNs
//                              ▼             ▼
//                           doomed ────► given to the system, by the keeper
//
// Whoever gives a block back may be a scheduler that collects garbage: unmapping 64 MiB is too long for that.
// So it is the *keeper*, a thread of the owner's that runs keep(), who gives memory to the system.
//
// How much may be in use is bounded twice: for all, and for each ResultAccount, which is a worker's. A worker
// that sends result after result can so fill its own account, not the machine's memory.
//
// Threads: any, but for keep().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace typhon::channel {

// What of one worker's results is in use, and how much may be. Outlives its channel while blocks are in use.
struct ResultAccount {
  std::size_t limit = SIZE_MAX;
  std::atomic<std::size_t> count{0};
  std::atomic<std::size_t> bytes{0};
};

class ResultMemory {
 public:
  static constexpr std::size_t kKeep = std::size_t{256} << 20;
  static constexpr std::uint64_t kIdleNs = 5'000'000'000;
  // From here on a fresh block is made for huge pages.
  static constexpr std::size_t kHugeAtLeast = std::size_t{8} << 20;
  // Blocks that are kept at most.
  static constexpr std::size_t kBlocks = 256;

  // Memory of one result. A resource: it goes back when it ends. Its first `size` bytes are the result's.
  class Block {
   public:
    Block() noexcept = default;
    Block(Block&& other) noexcept { *this = std::move(other); }
    Block& operator=(Block&& other) noexcept {
      if (this == &other) return *this;
      reset();
      memory_ = std::exchange(other.memory_, nullptr);
      account_ = std::move(other.account_);
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
      capacity_ = std::exchange(other.capacity_, 0);
      return *this;
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { reset(); }
    void reset() noexcept;
    explicit operator bool() const noexcept { return data_ != nullptr; }
    [[nodiscard]] std::uint8_t* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

   private:
    friend class ResultMemory;
    ResultMemory* memory_ = nullptr;
    std::shared_ptr<ResultAccount> account_;
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
  };

  enum class Refusal : std::uint8_t {
    kNone,
    kAccount,  // the worker's account is full
    kAll,      // so much is in use for all workers
    kSystem,   // the system has no memory
  };

  // `limit`: bytes that may be in use.
  explicit ResultMemory(std::size_t limit) noexcept : limit_(limit) {}
  ResultMemory(const ResultMemory&) = delete;
  ResultMemory& operator=(const ResultMemory&) = delete;
  // Nothing is in use any more, and nobody keeps.
  ~ResultMemory();

  // Room for `size` bytes, 1 at least. Without it `refusal` says why. `account` may be nullptr.
  Block take(std::size_t size, std::shared_ptr<ResultAccount> account, Refusal& refusal) noexcept;

  // The keeper: gives memory to the system when it is due, until stop(). One thread at a time.
  void keep() noexcept;
  void stop() noexcept;
  void restart() noexcept;  // before a new keeper
  // What the keeper does at `now`; gives the time at which there will be more to do, 0 for none.
  std::uint64_t give_to_system(std::uint64_t now) noexcept;

  [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::size_t in_use() const noexcept { return in_use_.load(std::memory_order_relaxed); }
  // Without what is doomed.
  [[nodiscard]] std::size_t cached() noexcept;

  // Half of the machine's memory, or of what a control group leaves of it.
  [[nodiscard]] static std::size_t half_of_machine() noexcept;

 private:
  struct Cached {
    std::uint8_t* data;
    std::size_t capacity;
    std::uint64_t since;
  };
  // Lies in the memory that it is about.
  struct Doomed {
    Doomed* next;
    std::size_t capacity;
  };

  [[nodiscard]] Refusal reserve(std::size_t size, ResultAccount* account) noexcept;
  void unreserve(std::size_t size, ResultAccount* account) noexcept;
  std::uint8_t* take_cached(std::size_t size, std::size_t& capacity) noexcept;
  void give_back(std::uint8_t* data, std::size_t capacity) noexcept;
  void doom_locked(void* block, std::size_t capacity) noexcept;
  void forget_locked(std::size_t index) noexcept;

  const std::size_t limit_;
  std::atomic<std::size_t> in_use_{0};

  std::mutex mutex_;
  std::condition_variable work_;
  // Guarded by mutex_:
  std::array<Cached, kBlocks> blocks_{};
  std::size_t count_ = 0;
  std::size_t cached_ = 0;
  Doomed* doomed_ = nullptr;
  bool waits_ = false;  // the keeper has nothing to do: it waits without a limit
  bool stopping_ = false;
};

}  // namespace typhon::channel
