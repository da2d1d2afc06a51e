// Mover: gives calls that wait behind a long one to workers that are free.
//
// A call goes into a worker's ring when it is made, by how much each worker has to do then; how long that
// will take nobody knows. So what a worker has not begun can be taken back (channel/claim.h): its caller is
// told
// {:not_started, left}, as when a worker has ended, and makes it again, for a worker that is free by then.
//
// While calls wait in a pool the Mover's thread looks at it every millisecond. It touches nothing while all
// of its workers answer: with many small calls the rings are where they wait best. A worker that has answered
// nothing for a millisecond *stands still*, and what waits for it goes, oldest first, those that were moved
// before in front:
//   - to workers that are free, so many as are free;
//   - to one that is busy, when a call there waits a quarter of the time that this one has waited: a worker
//   that
//     newcomers keep busy is never free.
// A call that was moved is no more likely to wait than a new one, and the worker that it was taken from
// weighs as much for whoever picks one as if the call was still there, until it answers again: else the next
// call would take its place.
//
// One thread for the VM, started when the first call waits, asleep while none does. Why not whoever delivers
// a reply: it would have to know the pool and its other workers at each reply; and nobody delivers one when a
// worker is placed, or has been free all along.
//
// Threads: any, where nothing else is said. Locks: its own before those of channels, one channel's at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "beam/nif.h"

namespace typhon::beam {

class Pool;

class Mover {
 public:
  Mover() noexcept = default;
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;
  ~Mover() = default;

  void add(Pool& pool) noexcept;
  // On return the thread does not touch the pool any more.
  void remove(Pool& pool) noexcept;

  // A pool has a queue (Pool::note_queue). Starts the thread if it does not run.
  void wake() noexcept;
  // False: it did not run.
  bool stop_thread() noexcept;

 private:
  enum State : std::uint32_t { kIdle, kLooks, kStops };

  static void* thread_main(void* self) noexcept;
  void run() noexcept;
  bool look() noexcept;

  Mutex mutex_{"typhon.mover"};
  std::vector<Pool*> pools_ TYPHON_GUARDED_BY(mutex_);
  std::atomic<std::uint32_t> state_{kIdle};
  std::atomic<bool> runs_{false};
  Mutex opening_{"typhon.mover_thread"};
  ErlNifTid thread_ TYPHON_GUARDED_BY(opening_){};
};

}  // namespace typhon::beam
