#include "worker/readers.h"

#include "channel/doorbell.h"

namespace typhon::worker {

bool Readers::read() noexcept {
  if (mailroom_.ring_empty()) return false;
  mailroom_.pump();
  // Frames may be another thread's. One that is about to sleep finds another generation; one that sleeps is
  // counted.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) wake();
  return true;
}

void Readers::wake() noexcept {
  generation_.fetch_add(1, std::memory_order_seq_cst);
  os::wake_word(generation_, INT32_MAX);
  channel::wake_from(word_, channel::kAsleep);
}

// True: it is the reader.
bool Readers::begin(bool& alone) noexcept {
  const Lock lock(mutex_);
  alone = sleepers_.fetch_add(1, std::memory_order_seq_cst) == 0;
  if (has_reader_) return false;
  has_reader_ = true;
  word_.store(channel::kAsleep, std::memory_order_relaxed);
  return true;
}

void Readers::end(bool reads) noexcept {
  bool others = false;
  {
    const Lock lock(mutex_);
    others = sleepers_.fetch_sub(1, std::memory_order_seq_cst) != 1;
    if (!reads) return;
    has_reader_ = false;
    word_.store(channel::kAwake, std::memory_order_relaxed);
  }
  // Somebody else has to be the reader, while this thread does something else.
  if (!others) return;
  generation_.fetch_add(1, std::memory_order_seq_cst);
  os::wake_word(generation_, INT32_MAX);
}

}  // namespace typhon::worker
