#include "worker/address_space.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace typhon::worker {

std::size_t mapped_bytes() noexcept {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/self/statm", "re"), std::fclose);
  char text[32] = {};
  if (!file || !std::fgets(text, sizeof text, file.get())) return 0;
  return std::strtoull(text, nullptr, 10) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

bool address_space_allows(std::size_t bytes) noexcept {
  rlimit limit{};
  return ::getrlimit(RLIMIT_AS, &limit) != 0 || mapped_bytes() + bytes <= limit.rlim_cur;
}

}  // namespace typhon::worker
