// What a decoded term keeps of a channel: a large body that is not decoded yet, and an object of Python. Both
// are resources of the BEAM, and keep their channel.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "channel/layout.h"
#include "channel/loan.h"

namespace typhon::beam {

class WorkerChannel;
struct PrivateBody;

// A reply body too large for the ring, held until decoded. It is copied first (take_in()): big binaries in
// the decoded term keep the copy. Where nothing is copied, inside the VM and with `results: :shared`, they
// keep the segment.
struct SegmentHandle {
  WorkerChannel* channel;  // kept
  channel::SegmentRef ref;
  std::span<const std::uint8_t> body;
  std::uint64_t times[5];
  bool is_error;
  bool timed;
  bool plain;        // the emulator's own decoder can build it
  bool has_objects;  // handles: each is to be made once, be it only to let go of it
  std::atomic<bool> decoded;
  std::atomic<bool> pinned;  // a decoded binary lies in it: it goes when the last such binary goes
  std::atomic<bool> released;
  channel::FrameLoans loans;  // until it has been decoded
  // A body that lay in the ring, and that this thread could not decode: `ref` means nothing then.
  std::vector<std::uint8_t> own;
  PrivateBody* copy = nullptr;  // kept: `body` lies in it, and the segment has been released
  bool taken_in = false;        // `body` may be read
  bool collected = false;       // its reader has collected garbage to make room for it

  // Nobody else can write to `body`.
  [[nodiscard]] bool is_private() const noexcept { return copy != nullptr || !own.empty(); }
};

// A Python object's life on this side: its destructor tells the worker that the last handle is gone.
struct ObjectHandle {
  WorkerChannel* channel;  // kept
  std::uint64_t id;
  std::atomic<bool> held;  // its worker is not to be replaced while it is needed: a stream is open
  bool disowned;           // the term that it was made for was given up, and is decoded again
};

}  // namespace typhon::beam
