#include "channel/result_memory.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <new>

#include "os/clock.h"
#include "os/memory.h"

namespace typhon::channel {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Blocks of about the same size fit one another; an eighth of one is unused at most.
std::size_t capacity_for(std::size_t size) noexcept {
  if (size >= kHugePage * 4) return os::round_up(size, kHugePage);
  return os::round_up(size, std::max(std::bit_floor(size) / 8, os::page_size()));
}

// All of a small one will be written at once: one call of the system instead of a fault for each page.
std::uint8_t* map_small(std::size_t capacity) noexcept { return os::map_private(capacity, os::Touch::kNow); }

std::uint8_t* map_huge(std::size_t capacity) noexcept {
  std::uint8_t* const at = os::map_private(capacity + kHugePage, os::Touch::kUnlikely);
  if (!at) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const std::size_t before = os::round_up(address, kHugePage) - address;
  if (before != 0) os::unmap(at, before);
  if (before != kHugePage) os::unmap(at + before + capacity, kHugePage - before);
  os::prefer_huge_pages(at + before, capacity);  // where there are none the pages are small ones
  os::leave_out_of_dumps(at + before, capacity);
  return at + before;
}

}  // namespace

std::size_t ResultMemory::half_of_machine() noexcept { return os::machine_memory() / 2; }

ResultMemory::~ResultMemory() {
  for (std::size_t i = 0; i < count_; ++i) os::unmap(blocks_[i].data, blocks_[i].capacity);
  while (doomed_) {
    const Doomed doomed = *doomed_;
    os::unmap(doomed_, doomed.capacity);
    doomed_ = doomed.next;
  }
}

void ResultMemory::Block::reset() noexcept {
  if (!data_) return;
  memory_->unreserve(size_, account_.get());
  memory_->give_back(std::exchange(data_, nullptr), capacity_);
  account_.reset();
}

ResultMemory::Refusal ResultMemory::reserve(std::size_t size, ResultAccount* account) noexcept {
  if (const std::size_t before = in_use_.fetch_add(size, std::memory_order_relaxed);
      size > limit_ || before > limit_ - size) {
    in_use_.fetch_sub(size, std::memory_order_relaxed);
    return Refusal::kAll;
  }
  if (!account) return Refusal::kNone;
  if (const std::size_t before = account->bytes.fetch_add(size, std::memory_order_relaxed);
      size > account->limit || before > account->limit - size) {
    account->bytes.fetch_sub(size, std::memory_order_relaxed);
    in_use_.fetch_sub(size, std::memory_order_relaxed);
    return Refusal::kAccount;
  }
  account->count.fetch_add(1, std::memory_order_relaxed);
  return Refusal::kNone;
}

void ResultMemory::unreserve(std::size_t size, ResultAccount* account) noexcept {
  in_use_.fetch_sub(size, std::memory_order_relaxed);
  if (!account) return;
  account->bytes.fetch_sub(size, std::memory_order_relaxed);
  account->count.fetch_sub(1, std::memory_order_relaxed);
}

ResultMemory::Block ResultMemory::take(std::size_t size, std::shared_ptr<ResultAccount> account,
                                       Refusal& refusal) noexcept {
  size = std::max<std::size_t>(size, 1);
  Block block;
  refusal = reserve(size, account.get());
  if (refusal != Refusal::kNone) return block;
  std::size_t capacity = 0;
  std::uint8_t* data = take_cached(size, capacity);
  if (!data) {
    capacity = capacity_for(size);
    data = size >= kHugeAtLeast ? map_huge(capacity) : map_small(capacity);
  }
  if (!data) {
    unreserve(size, account.get());
    refusal = Refusal::kSystem;
    return block;
  }
  block.memory_ = this;
  block.account_ = std::move(account);
  block.data_ = data;
  block.size_ = size;
  block.capacity_ = capacity;
  return block;
}

// The smallest that fits and is not half empty; of equals the warmest.
std::uint8_t* ResultMemory::take_cached(std::size_t size, std::size_t& capacity) noexcept {
  std::lock_guard lock(mutex_);
  std::size_t best = count_;
  for (std::size_t i = 0; i < count_; ++i) {
    const Cached& block = blocks_[i];
    if (block.capacity < size || block.capacity > size + std::max(size / 2, os::page_size())) continue;
    if (best == count_ || block.capacity < blocks_[best].capacity ||
        (block.capacity == blocks_[best].capacity && block.since > blocks_[best].since)) {
      best = i;
    }
  }
  if (best == count_) return nullptr;
  std::uint8_t* const data = blocks_[best].data;
  capacity = blocks_[best].capacity;
  forget_locked(best);
  return data;
}

void ResultMemory::give_back(std::uint8_t* data, std::size_t capacity) noexcept {
  std::lock_guard lock(mutex_);
  if (capacity > kKeep) {
    doom_locked(data, capacity);
  } else {
    // The coldest make room.
    while (count_ == kBlocks || cached_ + capacity > kKeep) {
      const auto coldest =
          std::min_element(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(count_),
                           [](const Cached& a, const Cached& b) { return a.since < b.since; });
      doom_locked(coldest->data, coldest->capacity);
      forget_locked(static_cast<std::size_t>(coldest - blocks_.begin()));
    }
    blocks_[count_++] = {data, capacity, os::monotonic_ns()};
    cached_ += capacity;
  }
  if (waits_ || doomed_) work_.notify_one();
}

void ResultMemory::doom_locked(void* block, std::size_t capacity) noexcept {
  doomed_ = new (block) Doomed{doomed_, capacity};
}

void ResultMemory::forget_locked(std::size_t index) noexcept {
  cached_ -= blocks_[index].capacity;
  blocks_[index] = blocks_[--count_];
}

std::uint64_t ResultMemory::give_to_system(std::uint64_t now) noexcept {
  std::unique_lock lock(mutex_);
  std::uint64_t next = 0;
  for (std::size_t i = count_; i-- > 0;) {
    const Cached block = blocks_[i];
    if (now - std::min(now, block.since) >= kIdleNs) {
      doom_locked(block.data, block.capacity);
      forget_locked(i);
    } else if (next == 0 || block.since + kIdleNs < next) {
      next = block.since + kIdleNs;
    }
  }
  Doomed* doomed = std::exchange(doomed_, nullptr);
  lock.unlock();
  while (doomed) {
    const Doomed one = *doomed;
    os::unmap(doomed, one.capacity);
    doomed = one.next;
  }
  return next;
}

void ResultMemory::keep() noexcept {
  for (;;) {
    const std::uint64_t now = os::monotonic_ns();
    const std::uint64_t next = give_to_system(now);
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    if (doomed_) continue;
    if (next == 0 && count_ == 0) {
      waits_ = true;
      work_.wait(lock);
      waits_ = false;
    } else {
      work_.wait_for(lock, std::chrono::nanoseconds(next == 0 ? kIdleNs : next - now));
    }
    if (stopping_) return;
  }
}

void ResultMemory::stop() noexcept {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  work_.notify_one();
}

void ResultMemory::restart() noexcept {
  std::lock_guard lock(mutex_);
  stopping_ = false;
}

std::size_t ResultMemory::cached() noexcept {
  std::lock_guard lock(mutex_);
  return cached_;
}

}  // namespace typhon::channel
