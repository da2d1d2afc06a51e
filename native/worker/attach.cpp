#include "worker/attach.h"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "os/descriptor.h"
#include "os/process.h"

namespace typhon::worker {

Result<std::unique_ptr<channel::Region>> attach(int beam_pid, int fd) {
  os::UniqueFd memory =
      beam_pid == 0 ? os::UniqueFd(fd) : os::open_descriptor_of(beam_pid, fd, os::Access::kReadWrite);
  if (!memory.valid()) {
    return Error{Code::kSystem, 0,
                 "the channel's memory cannot be opened (descriptor " + std::to_string(fd) + " of process " +
                     std::to_string(beam_pid) + ": " + std::strerror(errno) +
                     "): does the worker run as another user than the BEAM?"};
  }
  auto region = channel::Region::attach(std::move(memory));
  if (region.ok()) region.value()->close_fd();
  return region;
}

}  // namespace typhon::worker
