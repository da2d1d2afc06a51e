// How a worker comes to its channel's memory.
#pragma once

#include <memory>

#include "base/result.h"
#include "channel/region.h"

namespace typhon::worker {

// The region behind the descriptor `fd` of the BEAM's process: the same user, so it may be opened, and
// nothing has to be passed. `beam_pid` 0: in the BEAM itself, where the descriptor is the worker's own. None
// is left open.
[[nodiscard]] Result<std::unique_ptr<channel::Region>> attach(int beam_pid, int fd);

}  // namespace typhon::worker
