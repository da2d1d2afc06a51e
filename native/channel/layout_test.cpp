// The offsets that docs/protocol.md gives are those of the structures in layout.h.
#include "channel/layout.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

#include "channel/claim.h"

namespace typhon::channel {
namespace {

struct Field {
  std::size_t offset;
  std::size_t size;
  bool operator==(const Field&) const = default;
};
using Fields = std::map<std::string, Field>;

std::ostream& operator<<(std::ostream& out, const Field& field) {
  return out << field.size << " bytes at " << field.offset;
}

#define TYPHON_PLAIN(type, name)                        \
  {                                                     \
#name, { offsetof(type, name), sizeof(type::name) } \
  }
// On a cache line of its own: the size of what it holds.
#define TYPHON_SHARED(name)                                       \
  {                                                               \
#name, { offsetof(Header, name), sizeof(Header::name.value) } \
  }

// The rows "| offset | size | `field` | …" between a heading and the next heading.
Fields table_under(const std::string& heading) {
  std::ifstream page(std::string(TYPHON_SOURCE_DIR) + "/docs/protocol.md");
  Fields fields;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("#")) inside = line == heading;
    std::size_t offset = 0;
    std::size_t size = 0;
    char name[64];
    if (inside && std::sscanf(line.c_str(), "| %zu | %zu | `%63[a-z_]`", &offset, &size, name) == 3) {
      fields[name] = {offset, size};
    }
  }
  return fields;
}

TEST(ChannelLayout, HeaderIsAsTheProtocolPageSays) {
  const Fields header{
      TYPHON_PLAIN(Header, magic),
      TYPHON_PLAIN(Header, version),
      TYPHON_PLAIN(Header, header_size),
      TYPHON_PLAIN(Header, ring_size),
      TYPHON_PLAIN(Header, arena_size),
      TYPHON_PLAIN(Header, beam_pid),
      TYPHON_PLAIN(Header, worker_spin_us),
      TYPHON_PLAIN(Header, flags),
      TYPHON_PLAIN(Header, reserved),
      TYPHON_PLAIN(Header, max_result),
      TYPHON_SHARED(request_tail),
      TYPHON_SHARED(request_head),
      TYPHON_SHARED(worker_word),
      TYPHON_SHARED(reply_tail),
      TYPHON_SHARED(reply_head),
      TYPHON_SHARED(reader_word),
      TYPHON_SHARED(request_room),
      TYPHON_SHARED(reply_room),
      TYPHON_SHARED(suspended),
      TYPHON_SHARED(closing),
      TYPHON_PLAIN(Header, request_slots),
      TYPHON_PLAIN(Header, reply_slots),
      TYPHON_SHARED(casts_done),
      TYPHON_SHARED(request_leavings),
      TYPHON_SHARED(request_swept),
      TYPHON_SHARED(reply_leavings),
      TYPHON_SHARED(reply_swept),
      TYPHON_SHARED(heard),
      TYPHON_SHARED(heard_room),
      TYPHON_PLAIN(Header, imports),
  };
  EXPECT_EQ(table_under("### Header"), header);
  EXPECT_EQ(kHeaderSize, 65536U);
}

TEST(ChannelLayout, MarkOfAnImportIsAsTheProtocolPageSays) {
  const Fields mark{TYPHON_PLAIN(ImportMark, stamp), TYPHON_PLAIN(ImportMark, call),
                    TYPHON_PLAIN(ImportMark, name)};
  EXPECT_EQ(table_under("### Imports"), mark);
  EXPECT_EQ(sizeof(ImportMark), 128U);
  EXPECT_EQ(kImportMarks, 16U);
}

TEST(ChannelLayout, FrameHeaderIsAsTheProtocolPageSays) {
  const Fields frame{
      TYPHON_PLAIN(FrameHeader, size), TYPHON_PLAIN(FrameHeader, kind), TYPHON_PLAIN(FrameHeader, flags),
      TYPHON_PLAIN(FrameHeader, lent), TYPHON_PLAIN(FrameHeader, id),   TYPHON_PLAIN(FrameHeader, times),
  };
  EXPECT_EQ(table_under("## Frames"), frame);
  EXPECT_EQ(sizeof(FrameHeader), 56U);
}

TEST(ChannelLayout, SegmentReferenceIsAsTheProtocolPageSays) {
  const Fields reference{TYPHON_PLAIN(SegmentRef, slot), TYPHON_PLAIN(SegmentRef, offset),
                         TYPHON_PLAIN(SegmentRef, length)};
  EXPECT_EQ(table_under("## Segments"), reference);
  EXPECT_EQ(sizeof(SegmentRef), 24U);
}

// The numbers that the page names in its tables of states, kinds and flags.
static_assert(kAwake == 0 && kAsleep == 1 && kSpin == 2 && kTimed == 3 && kPolled == 4);
static_assert(kFree == 0 && kUsed == 1 && kReleased == 2);
static_assert(Kind::kReady == Kind{1} && Kind::kCall == Kind{2} && Kind::kCast == Kind{3});
static_assert(Kind::kRelease == Kind{4} && Kind::kReply == Kind{5} && Kind::kError == Kind{6});
static_assert(Kind::kAsk == Kind{7} && Kind::kSend == Kind{8} && Kind::kAnswer == Kind{9});
static_assert(Kind::kMessage == Kind{10});
static_assert(kInSegment == 1 && kTimings == 2 && kHasObjects == 4 && kPlain == 8 && kFailed == 16);
static_assert(kLends == 32 && kAsObject == 64 && kOfObject == 128 && kOpen == 0 && kLeft == 1 && kHeld == 2 &&
              kFlagLoans == 2 && kFlagDuration == 4 && kFlagTagged == 8);
static_assert(kFlagMapsetVersion == 1 && kVersion == 2 && kSegmentSlots == 4096);
static_assert(kClaims == 1 << 20 && kClaimsSize == 4 * 1024 * 1024);
static_assert(Claim::kOpen == Claim{0} && Claim::kTaken == Claim{1} && Claim::kWithdrawn == Claim{2});
static_assert(Claim::kImports == Claim{3});
static_assert(kMinRing == 64 * 1024 && kMaxRing == 64 * 1024 * 1024);

}  // namespace
}  // namespace typhon::channel
