// OpenChannels: every open channel of the library, for unload and upgrade; and threads that have ended and
// want to be joined. Any thread.
#pragma once

#include <vector>

#include "beam/nif.h"

namespace typhon::beam {

class WorkerChannel;

class OpenChannels {
 public:
  OpenChannels() noexcept : mutex_("typhon.open_channels") {}
  void add(WorkerChannel* channel) noexcept;
  // True for the one caller that took it out: that caller sees to the reader thread.
  bool remove(WorkerChannel* channel) noexcept;
  void bury(ErlNifTid thread) noexcept;
  void join_ended() noexcept;
  // Copies with a reference kept for each.
  std::vector<WorkerChannel*> keep_all() noexcept;

 private:
  Mutex mutex_;
  std::vector<WorkerChannel*> channels_ TYPHON_GUARDED_BY(mutex_);
  std::vector<ErlNifTid> ended_ TYPHON_GUARDED_BY(mutex_);
};

}  // namespace typhon::beam
