// A hostile process at the other end of a channel: it writes the region's header, the rings and their counts,
// the slots of segments, and names segments in frames. Whatever it writes, this side finds out or takes it as
// a frame, never touches memory outside of the rings and arenas, and keeps its own books in order.
//
// The first byte chooses the door:
//   0  Region::attach() on a sealed memfd that starts with the bytes
//   1  Region::attach() on a good header in which the bytes replace some fields, of a file of a size they
//   choose otherwise a script: each step lets the hostile side write something, or this side use a ring or an
//   arena
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "channel/arena.h"
#include "channel/reader_role.h"
#include "channel/region.h"
#include "channel/ring.h"
#include "fuzz/check.h"
#include "os/memory.h"

namespace {

using namespace typhon;
using namespace typhon::channel;

// Hands out the input piece by piece; zeros when it has ended.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<const std::uint8_t> rest() const { return {data_, size_}; }
  template <class T>
  T take() {
    T value{};
    const std::size_t taken = std::min(sizeof value, size_);
    if (taken > 0) std::memcpy(&value, data_, taken);
    data_ += taken;
    size_ -= taken;
    return value;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

constexpr unsigned kFixed = os::kNoShrinking | os::kNoGrowing;

void attach_to(std::size_t file_size, std::span<const std::uint8_t> start, unsigned seals) {
  os::UniqueFd fd = os::make_shared_memory("fuzz");
  CHECK(fd.valid());
  if (!os::set_size(fd.get(), file_size)) return;
  const std::size_t written = std::min(start.size(), file_size);
  CHECK(::pwrite(fd.get(), start.data(), written, 0) == static_cast<ssize_t>(written));
  if (!os::seal(fd.get(), seals)) return;
  auto attached = Region::attach(std::move(fd));
  if (!attached.ok()) {
    CHECK(!attached.error().message.empty());
    return;
  }
  // Whatever was taken must really be there: the ends of each part, written and read.
  const Region& region = *attached.value();
  CHECK((seals & kFixed) == kFixed);
  CHECK(kHeaderSize + kClaimsSize + 2 * region.ring_size() + 2 * region.arena_size() == file_size);
  for (std::uint8_t* ring : {region.request_ring(), region.reply_ring()}) {
    ring[0] = 1;
    CHECK(ring[region.ring_size()] == 1);
    ring[2 * region.ring_size() - 1] = 2;
    CHECK(ring[region.ring_size() - 1] == 2);
  }
  for (std::uint8_t* arena : {region.request_arena(), region.reply_arena()})
    arena[region.arena_size() - 1] = 3;
  region.header().reply_slots[kSegmentSlots - 1].store(kReleased);
  CHECK(region.claims().withdraw(kClaims - 1 + (std::uint64_t{1} << 32)));
}

void attach_raw(Input input) {
  const std::size_t sizes[] = {input.rest().size(), kHeaderSize,
                               kHeaderSize + kClaimsSize + 2 * kMinRing + 2 * os::page_size()};
  const std::size_t size = sizes[input.take<std::uint8_t>() % 3];
  attach_to(size, input.rest(), kFixed);
}

void attach_changed(Input input) {
  struct {
    std::uint64_t magic = kMagic;
    std::uint32_t version = kVersion;
    std::uint32_t header_size = kHeaderSize;
    std::uint64_t ring_size = kMinRing;
    std::uint64_t arena_size = os::page_size();
  } constants;
  static_assert(sizeof constants == offsetof(Header, beam_pid));
  const auto which = input.take<std::uint8_t>();
  std::uint64_t ring_size = kMinRing;
  std::uint64_t arena_size = os::page_size();
  if ((which & 1) != 0) ring_size = constants.ring_size = input.take<std::uint64_t>();
  if ((which & 2) != 0) arena_size = constants.arena_size = input.take<std::uint64_t>();
  if ((which & 4) != 0) constants.magic = input.take<std::uint64_t>();
  if ((which & 8) != 0) constants.version = input.take<std::uint32_t>();
  if ((which & 16) != 0) constants.header_size = input.take<std::uint32_t>();
  const unsigned seals = (which & 32) != 0 ? input.take<std::uint8_t>() & 0x1fU : kFixed;
  std::uint64_t size =
      kHeaderSize + kClaimsSize + 2 * ring_size + 2 * arena_size;  // may overflow, as an attacker would like
  if ((which & 64) != 0) size += input.take<std::uint64_t>();
  if (size > (std::uint64_t{1} << 42)) size &= (std::uint64_t{1} << 30) - 1;
  attach_to(size, {reinterpret_cast<const std::uint8_t*>(&constants), sizeof constants}, seals);
}

// One region for all inputs: mapping costs more than a script. The counts and slots are reset, the contents
// are not.
constexpr std::size_t kArenaPages = 64;

Region& shared_region() {
  static const std::unique_ptr<Region> region = [] {
    RegionOptions options;
    options.ring_size = kMinRing;
    options.arena_size = kArenaPages * os::page_size();
    auto created = Region::create(options);
    CHECK(created.ok());
    return std::move(created).value();
  }();
  return *region;
}

// This side of the channel, played as the BEAM does it, with a check after every step.
class Victim {
 public:
  explicit Victim(Region& region) : region_(region), header_(region.header()) {
    for (auto* count :
         {&header_.request_tail, &header_.request_head, &header_.reply_tail, &header_.reply_head}) {
      count->value.store(0);
    }
    for (auto& slot : header_.request_slots) slot.store(kFree, std::memory_order_relaxed);
    for (auto& slot : header_.reply_slots) slot.store(kFree, std::memory_order_relaxed);
    std::memset(region_.reply_ring(), 0, region_.ring_size());
  }

  void run(Input input) {
    for (int step = 0; step < 400 && !input.empty(); ++step) {
      switch (input.take<std::uint8_t>() % 15) {
        // The hostile side.
        case 0:
          header_.reply_tail.value.store(input.take<std::uint64_t>());
          break;
        case 1:
          header_.reply_tail.value.fetch_add(8 * std::uint64_t{input.take<std::uint16_t>()});
          break;
        case 2:
          header_.request_head.value.store(input.take<std::uint64_t>());
          break;
        case 3:
          header_.request_head.value.fetch_add(input.take<std::uint16_t>());
          break;
        case 4:
          header_.request_slots[input.take<std::uint16_t>() % kSegmentSlots].store(
              input.take<std::uint8_t>());
          break;
        case 5:
          write_frame(input);
          break;
        case 6: {
          const auto at = input.take<std::uint16_t>();
          const auto value = input.take<std::uint32_t>();
          std::memcpy(region_.reply_ring() + at % (kMinRing - 4), &value, sizeof value);
          break;
        }
        case 7:
          header_.reply_head.value.store(input.take<std::uint64_t>());
          break;  // this side's own counts
        case 8:
          header_.request_tail.value.store(input.take<std::uint64_t>());
          break;
        // This side.
        case 9:
          consume();
          break;
        case 10:
          produce(input.take<std::uint16_t>());
          break;
        case 11:
          allocate(input.take<std::uint32_t>());
          break;
        case 12:
          change(input);
          break;
        case 14:
          play_role(input);
          break;
        default:
          owner_.reap();
          if (input.take<std::uint8_t>() % 8 == 0) owner_.trim(input.take<std::uint16_t>());
      }
      CHECK(owner_.bytes_in_use() <= region_.arena_size());
      CHECK(producer_.used() <= region_.ring_size());
    }
    finish();
  }

 private:
  void write_frame(Input& input) {
    struct {
      FrameHeader header;
      SegmentRef ref;
    } frame{};
    frame.header.size = input.take<std::uint32_t>() % (2 * sizeof frame);
    frame.header.kind = static_cast<Kind>(input.take<std::uint8_t>());
    frame.header.flags = input.take<std::uint8_t>();
    frame.ref = input.take<SegmentRef>();
    const std::uint64_t tail = header_.reply_tail.value.load();
    std::memcpy(region_.reply_ring() + tail % kMinRing, &frame, sizeof frame);
    header_.reply_tail.value.store(tail + align8(frame.header.size));
  }

  void consume() {
    FrameHeader frame{};
    std::span<const std::uint8_t> body;
    if (consumer_.peek(frame, body) != RingConsumer::State::kFrame) {
      consumer_.pop();
      return;
    }
    const std::uint8_t* const ring = region_.reply_ring();
    CHECK(frame.size >= sizeof frame && body.size() == frame.size - sizeof frame);
    CHECK(body.data() >= ring && body.data() + body.size() <= ring + 2 * region_.ring_size());
    look_at(body);
    SegmentRef ref{};
    if ((frame.flags & kInSegment) != 0 && body.size() == sizeof ref) {
      std::memcpy(&ref, body.data(), sizeof ref);
      if (const auto view = peer_.view(ref)) {
        CHECK(view->data() >= region_.reply_arena());
        CHECK(view->data() + view->size() <= region_.reply_arena() + region_.arena_size());
        look_at(*view);
      }
      peer_.release(ref.slot);
    }
    consumer_.pop();
  }

  void produce(std::size_t bytes) {
    bytes = align8(bytes + sizeof(FrameHeader));
    std::uint8_t* const place = producer_.reserve(bytes);
    if (!place) return;
    CHECK(place >= region_.request_ring());
    CHECK(place + bytes <= region_.request_ring() + 2 * region_.ring_size());
    place[0] = place[bytes - 1] = 7;
    producer_.commit(bytes);
  }

  // Two threads of this side want to read, a caller and the reader, and the hostile side writes the word: at
  // most one of the two has the role, and whoever has it is there.
  void play_role(Input& input) {
    std::uint32_t found = kAsleep;
    switch (input.take<std::uint8_t>() % 5) {
      case 0:
        header_.reader_word.value.store(input.take<std::uint8_t>() % 8);
        break;
      case 1:
        header_.reader_word.value.store(input.take<std::uint32_t>());
        break;
      case 2:
        if (!role_.try_take(found)) break;
        CHECK(!reads_);
        CHECK(found == kAsleep || found == kTimed || found == kPolled);
        reads_ = true;
        found_ = found;
        break;
      case 3:
        if (role_.reader_takes()) {
          CHECK(!reads_);
          reads_ = true;
          found_ = input.take<std::uint8_t>() % 2 == 0 ? kAsleep : kTimed;
        } else {
          CHECK(reads_);
        }
        break;
      default:
        leave_role();
    }
    CHECK(!reads_ || !role_.abandoned(header_.reader_word.value.load()));
  }

  void leave_role() {
    if (reads_) role_.leave(found_);
    reads_ = false;
  }

  void check(const Segment& segment) {
    CHECK(segment.slot < kSegmentSlots);
    CHECK(segment.capacity > 0 && segment.capacity <= region_.arena_size());
    CHECK(segment.offset <= region_.arena_size() - segment.capacity);
    owner_.data(segment)[0] = owner_.data(segment)[segment.capacity - 1] = 9;
  }

  void allocate(std::size_t bytes) {
    const auto segment = owner_.allocate(bytes % (2 * region_.arena_size()));
    if (!segment) return;
    CHECK(segment->capacity >= bytes % (2 * region_.arena_size()));
    check(*segment);
    held_.push_back(*segment);
  }

  void change(Input& input) {
    if (held_.empty()) return;
    const std::size_t which = input.take<std::uint8_t>() % held_.size();
    Segment& segment = held_[which];
    const std::size_t bytes = input.take<std::uint32_t>() % (2 * region_.arena_size());
    switch (input.take<std::uint8_t>() % 3) {
      case 0:
        if (owner_.grow(segment, std::min<std::size_t>(bytes, segment.capacity), bytes)) {
          CHECK(segment.capacity >= bytes);
        }
        check(segment);
        break;
      case 1:
        owner_.shrink(segment, bytes);
        check(segment);
        break;
      default:
        owner_.discard(segment);
        segment = held_.back();
        held_.pop_back();
    }
  }

  // After all that: the reader can read, whatever the word says, and once everything is released, all of the
  // arena is there again, in one piece.
  void finish() {
    leave_role();
    CHECK(role_.reader_takes());
    role_.rest(kAsleep);
    for (auto& slot : header_.request_slots) slot.store(kReleased, std::memory_order_relaxed);
    owner_.reap();
    CHECK(owner_.bytes_in_use() == 0);
    const auto all = owner_.allocate(region_.arena_size());
    CHECK(all && all->offset == 0);
    owner_.discard(*all);
  }

  void look_at(std::span<const std::uint8_t> bytes) {
    if (!bytes.empty()) seen_ = static_cast<std::uint8_t>(bytes.front() + bytes.back());
  }

  Region& region_;
  Header& header_;
  RingProducer producer_{region_.request_ring(), region_.ring_size(), header_.request_tail.value,
                         header_.request_head.value};
  RingConsumer consumer_{region_.reply_ring(), region_.ring_size(), header_.reply_tail.value,
                         header_.reply_head.value};
  ArenaOwner owner_{region_.request_arena(), region_.arena_size(), header_.request_slots};
  ArenaPeer peer_{region_.reply_arena(), region_.arena_size(), header_.reply_slots};
  ReaderRole role_{header_.reader_word.value};
  bool reads_ = false;
  std::uint32_t found_ = kAsleep;
  std::vector<Segment> held_;
  volatile std::uint8_t seen_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  switch (input.take<std::uint8_t>() % 8) {
    case 0:
      attach_raw(input);
      break;
    case 1:
      attach_changed(input);
      break;
    default:
      Victim(shared_region()).run(input);
      break;
  }
  return 0;
}
