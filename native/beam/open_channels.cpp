#include "beam/open_channels.h"

#include "beam/worker_channel.h"

namespace typhon::beam {

void OpenChannels::add(WorkerChannel* channel) noexcept {
  const Lock lock(mutex_);
  channels_.push_back(channel);
}

bool OpenChannels::remove(WorkerChannel* channel) noexcept {
  const Lock lock(mutex_);
  return std::erase(channels_, channel) != 0;
}

void OpenChannels::bury(ErlNifTid thread) noexcept {
  const Lock lock(mutex_);
  ended_.push_back(thread);
}

void OpenChannels::join_ended() noexcept {
  std::vector<ErlNifTid> ended;
  {
    const Lock lock(mutex_);
    ended.swap(ended_);
  }
  for (ErlNifTid thread : ended) enif_thread_join(thread, nullptr);
}

std::vector<WorkerChannel*> OpenChannels::keep_all() noexcept {
  const Lock lock(mutex_);
  for (WorkerChannel* channel : channels_) enif_keep_resource(channel);
  return channels_;
}

}  // namespace typhon::beam
