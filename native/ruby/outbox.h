// Outbox: Ruby's end of the reply ring (worker::Outlet): encodes objects into frames, which it sends.
#pragma once

#include <atomic>
#include <cstdint>

#include "channel/layout.h"
#include "ruby/codec.h"
#include "worker/outlet.h"
#include "worker/timings.h"

namespace typhon::ruby {

class Outbox final : public worker::Outlet {
 public:
  using Outlet::Outlet;

  // `header`: kind, id and what else the frame carries; size and flags of the body are added. `timings`: of
  // an answer to a call, or nullptr.
  Encoded send(channel::FrameHeader header, VALUE value, const Options& options,
               worker::Timings* timings) noexcept;

 private:
  Encoded encode_and_publish(channel::FrameHeader header, VALUE value, Options options,
                             worker::Timings* timings, bool& lacks_memory) noexcept;
  void wait_for_room(std::atomic<std::uint32_t>& room, std::int64_t limit_ns) noexcept override;
};

}  // namespace typhon::ruby
