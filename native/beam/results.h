// Results: the VM's private memory for results that came in segments (channel::ResultMemory), the thread that
// gives it back to the system, and the resource by which binaries lie in it.
//
// One for the VM: binaries outlive calls, channels and pools.
//
// Threads: any; the rest says so.
#pragma once

#include "beam/nif.h"
#include "channel/result_memory.h"

namespace typhon::beam {

// A resource: the body of a segment as it was when it was copied. Nobody else can write it.
struct PrivateBody {
  channel::ResultMemory::Block block;
};

class Results {
 public:
  Results() noexcept : memory_(channel::ResultMemory::half_of_machine()) {}
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;
  ~Results() = default;

  [[nodiscard]] channel::ResultMemory& memory() noexcept { return memory_; }

  // Starts the thread if it does not run.
  bool ensure_thread() noexcept;
  // False: it did not run.
  bool stop_thread() noexcept;

 private:
  static void* thread_main(void* self) noexcept;

  channel::ResultMemory memory_;
  Mutex opening_{"typhon.results"};
  bool runs_ TYPHON_GUARDED_BY(opening_) = false;
  ErlNifTid thread_ TYPHON_GUARDED_BY(opening_){};
};

}  // namespace typhon::beam
