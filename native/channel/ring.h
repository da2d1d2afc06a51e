// A ring of frames in shared memory: one producer role, one consumer role.
//
// Counts of bytes ever written and read never wrap (64 bits); the place in the ring is the count modulo its
// size. Each side keeps its own count privately and publishes a copy; what it reads of the other's is checked
// before use, so a peer that scribbles over the counts is found out (Broken) and cannot make this side touch
// memory outside. Neither class locks: the caller sees to it that one thread at a time plays each role.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>

#include "channel/layout.h"

namespace typhon::channel {

class RingProducer {
 public:
  RingProducer(std::uint8_t* memory, std::size_t size, std::atomic<std::uint64_t>& tail,
               const std::atomic<std::uint64_t>& head) noexcept
      : memory_(memory), size_(size), tail_shared_(tail), head_shared_(head) {}

  // Contiguous room for `bytes` (a multiple of 8), or nullptr when the ring is too full. Nothing is visible
  // to the consumer before commit(); reserve() may be called again instead.
  [[nodiscard]] std::uint8_t* reserve(std::size_t bytes) noexcept {
    if (bytes > size_) return nullptr;
    if (tail_ + bytes - head_seen_ > size_) {
      if (!refresh() || tail_ + bytes - head_seen_ > size_) return nullptr;
    }
    return memory_ + (tail_ & (size_ - 1));
  }

  // Publishes a frame of `size` bytes (as in its header) that lies where reserve() said.
  void commit(std::size_t size) noexcept {
    tail_ += align8(size);
    tail_shared_.store(tail_, std::memory_order_release);
  }

  // Bytes not yet consumed.
  [[nodiscard]] std::size_t used() noexcept {
    refresh();
    return tail_ - head_seen_;
  }
  // Bytes ever published: where the next frame starts.
  [[nodiscard]] std::uint64_t published() const noexcept { return tail_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool broken() const noexcept { return broken_; }

 private:
  bool refresh() noexcept {
    const std::uint64_t head = head_shared_.load(std::memory_order_acquire);
    // The consumer's count only grows, and never beyond ours.
    if (head - head_seen_ > tail_ - head_seen_) {
      broken_ = true;
      return false;
    }
    head_seen_ = head;
    return true;
  }

  std::uint8_t* memory_;
  std::size_t size_;
  std::uint64_t tail_ = 0;
  std::uint64_t head_seen_ = 0;
  bool broken_ = false;
  std::atomic<std::uint64_t>& tail_shared_;
  const std::atomic<std::uint64_t>& head_shared_;
};

class RingConsumer {
 public:
  enum class State : std::uint8_t { kEmpty, kFrame, kBroken };

  RingConsumer(std::uint8_t* memory, std::size_t size, const std::atomic<std::uint64_t>& tail,
               std::atomic<std::uint64_t>& head) noexcept
      : memory_(memory), size_(size), tail_shared_(tail), head_shared_(head) {}

  // Starts at a frame that another consumer, which is gone, has not taken.
  void start_at(std::uint64_t head) noexcept { head_ = tail_seen_ = head; }
  [[nodiscard]] std::uint64_t consumed() const noexcept { return head_; }

  [[nodiscard]] bool empty() const noexcept { return tail_shared_.load(std::memory_order_acquire) == head_; }

  // The next frame: a checked copy of its header, and its body in place.
  [[nodiscard]] State peek(FrameHeader& header, std::span<const std::uint8_t>& body) noexcept {
    if (tail_seen_ == head_) {
      const std::uint64_t tail = tail_shared_.load(std::memory_order_acquire);
      if (tail == head_) return State::kEmpty;
      if (tail - head_ > size_ || (tail & 7) != 0) return State::kBroken;
      tail_seen_ = tail;
    }
    const std::uint64_t available = tail_seen_ - head_;
    const std::uint8_t* frame = memory_ + (head_ & (size_ - 1));
    if (available < sizeof(FrameHeader)) return State::kBroken;
    std::memcpy(&header, frame, sizeof header);
    if (header.size < sizeof(FrameHeader) || header.size > available) return State::kBroken;
    if (align8(header.size) > available) return State::kBroken;
    current_ = align8(header.size);
    body = {frame + sizeof(FrameHeader), header.size - sizeof(FrameHeader)};
    return State::kFrame;
  }

  // Goes on to the next frame; the peeked one stays readable until publish().
  void skip() noexcept {
    head_ += current_;
    current_ = 0;
  }
  // Gives the room of all skipped frames back to the producer.
  void publish() noexcept { head_shared_.store(head_, std::memory_order_release); }
  void pop() noexcept {
    skip();
    publish();
  }

 private:
  std::uint8_t* memory_;
  std::size_t size_;
  std::uint64_t head_ = 0;
  std::uint64_t tail_seen_ = 0;
  std::size_t current_ = 0;
  const std::atomic<std::uint64_t>& tail_shared_;
  std::atomic<std::uint64_t>& head_shared_;
};

}  // namespace typhon::channel
