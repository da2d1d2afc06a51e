// The shared region of one channel, byte by byte (docs/protocol.md is its prose twin).
//
//   0            Header: what never changes, then one cache line for each word that both sides touch
//   64 KiB       claims: one word for each call that can be in flight (claim.h)
//   + 4 MiB      request ring   (BEAM → Python)
//   + ring_size  reply ring     (Python → BEAM)
//   + ring_size  request arena  (allocated by the BEAM; segments that requests point at)
//   + arena_size reply arena    (allocated by the worker; segments that replies point at)
//
// Everything here may be written by the other process at any time: whoever uses a value loads it once and
// validates the copy. All integers are in the machine's byte order: both sides run on the same machine.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace typhon::channel {

inline constexpr std::uint64_t kMagic = 0x316e6f6870795401;  // "\x01Typhon1", little endian
inline constexpr std::uint32_t kVersion = 2;
inline constexpr std::size_t kHeaderSize = std::size_t{64} * 1024;
inline constexpr std::size_t kClaims = std::size_t{1} << 20;
inline constexpr std::size_t kClaimsSize = kClaims * sizeof(std::uint32_t);
// Of the protocol, whatever the page size of the machine: an arena's size is a multiple of it.
inline constexpr std::size_t kArenaUnit = 4096;
inline constexpr std::size_t kSegmentSlots = 4096;
inline constexpr std::size_t kMinRing = std::size_t{64} * 1024;
inline constexpr std::size_t kMaxRing = std::size_t{64} * 1024 * 1024;
inline constexpr std::size_t kCacheLine = 64;

// Imports of a worker that can be told apart, and how much of a module's name is kept.
inline constexpr std::size_t kImportMarks = 16;
inline constexpr std::size_t kImportName = 112;

// What a worker may have said, and not been heard: frames that want no answer (kAsk without a tag, kSend).
inline constexpr std::uint32_t kMostStatements = 1024;
// A statement counts for one more for each of so many bytes in its segment, or lent (statement_weight()).
inline constexpr std::uint64_t kStatementBytes = std::uint64_t{256} * 1024;
// What it may have asked in nobody's name (id 0) and got no answer to.
inline constexpr std::uint32_t kMostQuestions = 1024;

// The state of a sleeper's word. The worker uses kAwake and kAsleep; the reply ring's word knows all five.
enum Word : std::uint32_t {
  kAwake = 0,   // its owner drains: nobody has to wake it
  kAsleep = 1,  // its owner waits without a limit: whoever publishes must wake it
  kSpin = 2,    // a caller in the BEAM owns the reply ring for some microseconds: no wake
  kTimed = 3,   // the reader waits with a short limit: a wake may be put off to gather replies
  kPolled = 4,  // the same, and a caller in the BEAM looks each time its turn comes: no wake, of either side
};

// A segment slot's state, written by the owner of the arena (kFree ↔ kUsed) and by its peer (kUsed →
// kReleased).
enum Slot : std::uint32_t { kFree = 0, kUsed = 1, kReleased = 2 };

struct alignas(kCacheLine) SharedCount {
  std::atomic<std::uint64_t> value;
};

struct alignas(kCacheLine) SharedWord {
  std::atomic<std::uint32_t> value;
};

// A module that a thread of the worker imports (imports.h).
struct alignas(kCacheLine) ImportMark {
  std::atomic<std::uint64_t> stamp;  // 0: free
  std::atomic<std::uint64_t> call;   // 0: none, or the event loop's thread
  std::atomic<std::uint64_t>
      name[kImportName / sizeof(std::uint64_t)];  // UTF-8, NUL behind it if it is short
};

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_size;
  std::uint64_t ring_size;   // of each ring; a power of two
  std::uint64_t arena_size;  // of each arena; whole pages
  std::uint32_t beam_pid;
  std::uint32_t worker_spin_us;
  std::uint32_t flags;  // kFlagMapsetVersion …
  std::uint32_t reserved;
  std::uint64_t max_result;  // bytes that the body of one of the worker's frames may have

  SharedCount request_tail;  // bytes ever published by the BEAM
  SharedCount request_head;  // bytes ever consumed by the worker
  SharedWord worker_word;    // doorbell of the worker
  SharedCount reply_tail;    // bytes ever published by the worker
  SharedCount reply_head;    // bytes ever consumed by the BEAM
  SharedWord reader_word;    // doorbell of whoever reads replies (reader_role.h says who does)
  SharedWord request_room;   // 1: callers wait for room in the request ring; the worker must ring the reader
  SharedWord reply_room;     // futex: 1: the worker waits for room in the reply ring; the BEAM must wake it
  SharedCount suspended;     // calls that the worker has taken and that wait in its event loop
  SharedWord closing;        // 1: the BEAM closes the channel

  alignas(kCacheLine) std::atomic<std::uint32_t> request_slots[kSegmentSlots];
  alignas(kCacheLine) std::atomic<std::uint32_t> reply_slots[kSegmentSlots];

  SharedCount casts_done;  // casts that have ended, or were dropped because they came too late

  // Frames with loans that their receiver has left behind for good (loan.h): kOpen, kLeft or kHeld; and up to
  // where their loans have been given back.
  SharedWord request_leavings;
  SharedCount request_swept;
  SharedWord reply_leavings;
  SharedCount reply_swept;

  SharedCount heard;      // statements of the worker that have been dealt with
  SharedWord heard_room;  // futex: 1: the worker waits for more of them to be

  ImportMark imports[kImportMarks];
};

inline constexpr std::uint32_t kFlagMapsetVersion = 1;  // Elixir's MapSet has a `version` field
inline constexpr std::uint32_t kFlagLoans = 2;     // both sides are in one process: frames may carry loans
inline constexpr std::uint32_t kFlagDuration = 4;  // Elixir has the struct Duration
inline constexpr std::uint32_t kFlagTagged = 8;    // the pool's tagged: is true

enum Leavings : std::uint32_t {
  kOpen = 0,  // the receiver takes frames
  kLeft = 1,  // it will take no more
  kHeld = 2,  // and somebody is giving back the loans of those that lie there
};

static_assert(sizeof(Header) <= kHeaderSize);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<std::uint32_t>::is_always_lock_free);

// One frame in a ring. Frames start at multiples of 8; the body follows the header, or lies in a segment.
enum class Kind : std::uint8_t {
  kReady = 1,     // worker → BEAM, first frame: a map that introduces the worker
  kCall = 2,      // BEAM → worker: {Module, Function, Args, Kwargs}; answered by kReply or kError
  kCast = 3,      // BEAM → worker: the same, not answered
  kRelease = 4,   // BEAM → worker: ids of objects whose handles are gone; body: 8 bytes each
  kReply = 5,     // worker → BEAM: the result
  kError = 6,     // worker → BEAM: an error term
  kAsk = 7,       // worker → BEAM: a term for the caller of request `id`, or for the worker's owner (id 0)
  kSend = 8,      // worker → BEAM: {Pid, Message}, delivered as a message
  kAnswer = 9,    // BEAM → worker: what a kAsk came to; `id` is its tag
  kMessage = 10,  // BEAM → worker: a term for the worker's mailbox
};

enum FrameFlag : std::uint8_t {
  kInSegment = 1,  // the body is a SegmentRef
  kTimings = 2,    // request: measure; reply: the timings are filled in
  kHasObjects =
      4,         // reply: the body holds object handles, so it must be decoded even when nobody waits for it
  kPlain = 8,    // reply in a segment: neither object handles nor a binary that is worth pointing into
  kFailed = 16,  // answer: the body says what went wrong
  kLends = 32,   // the frame ends with the address of its first Loan, 8 bytes that are no part of the body
  kAsObject = 64,   // call: its result goes back as an object handle, whatever it is
  kOfObject = 128,  // request: an object stands in the module's place, which may be a string in Python
};

struct FrameHeader {
  std::uint32_t size;  // header and body, without the padding to 8
  Kind kind;
  std::uint8_t flags;
  std::uint16_t lent;  // of what lends: the weight of its loans (statement_weight())
  std::uint64_t id;    // of a call: the index of its claim in the low 32 bits, and its generation above
  // Request: [0] when it was published, [1] deadline (0: none), CLOCK_MONOTONIC nanoseconds; [2] the tag of
  // the kAsk in whose course it was made (0: none). Ask: [0] its tag, 0 when no answer is wanted. Reply:
  // nanoseconds it waited, was decoded, ran, was encoded; then when it was published.
  std::uint64_t times[5];
};
static_assert(sizeof(FrameHeader) == 56);

struct SegmentRef {
  std::uint64_t slot;
  std::uint64_t offset;  // in the arena
  std::uint64_t length;
};

// What a statement counts for: a large one takes memory of the BEAM's until its receiver has taken it. One
// may always be made when nothing is owed, so none counts for more than all.
inline std::uint32_t statement_weight(const FrameHeader& header,
                                      std::span<const std::uint8_t> body) noexcept {
  std::uint64_t weight = (header.flags & kLends) != 0 ? header.lent : 0;
  SegmentRef ref;
  if ((header.flags & kInSegment) != 0 && body.size() >= sizeof ref) {
    std::memcpy(&ref, body.data(), sizeof ref);
    weight += ref.length / kStatementBytes;
  }
  return 1 + static_cast<std::uint32_t>(std::min<std::uint64_t>(weight, kMostStatements - 1));
}

inline constexpr std::size_t align8(std::size_t size) noexcept { return (size + 7) & ~std::size_t{7}; }

}  // namespace typhon::channel
