// RoomQueue: processes whose request found no room, in the ring or for its segment. Each gets {ref, :room}
// when it is worth another try, or when the channel has been closed.
//
// Not thread-safe: the channel's mutex guards it. Messages are sent when it is not held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "beam/nif.h"

namespace typhon::beam {

class RoomQueue {
 public:
  struct Waiter {
    ErlNifPid caller;
    ErlNifEnv* env;
    ERL_NIF_TERM ref;
    bool movable;  // its request may go to another worker
  };

  RoomQueue() = default;
  RoomQueue(const RoomQueue&) = delete;
  RoomQueue& operator=(const RoomQueue&) = delete;
  ~RoomQueue();

  void add(const ErlNifPid& caller, ERL_NIF_TERM ref, bool movable) noexcept;
  void remove(ERL_NIF_TERM ref) noexcept;
  // They are to be told.
  [[nodiscard]] std::vector<Waiter> take_all() noexcept;
  [[nodiscard]] std::vector<Waiter> take_movable() noexcept;
  static void tell(ErlNifEnv* caller_env, const Atoms& atoms, std::vector<Waiter>& waiters) noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return waiters_.size(); }
  // How many there have been.
  [[nodiscard]] std::uint64_t added() const noexcept { return added_; }

 private:
  std::vector<Waiter> waiters_;
  std::uint64_t added_ = 0;
};

}  // namespace typhon::beam
