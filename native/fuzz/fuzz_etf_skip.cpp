// skip() and decode() take the same bytes, find the same end, and give the same reason when they refuse.
#include <cstddef>
#include <cstdint>
#include <memory>

#include "etf/decode.h"
#include "etf/skip.h"
#include "fuzz/check.h"
#include "testing/tree.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace typhon;
  using namespace typhon::etf;
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[size + 1]);
  copy[0] = kVersion;
  std::copy(data, data + size, copy.get() + 1);
  const Bytes input(copy.get(), size + 1);

  // A low limit on depth is reached far more often.
  for (const std::uint32_t depth : {10'000u, 3u, 0u}) {
    Limits limits;
    limits.max_inflated = 1 << 20;
    limits.max_depth = depth;
    limits.loans = depth / 3;  // none with the last
    Tree tree;
    tree.reject_duplicate_keys = false;
    Tree::Value value{};
    const Outcome decoded = decode_prefix(input, tree, limits, value);
    const Outcome skipped = skip(input, limits);
    CHECK(decoded.ok() == skipped.ok());
    CHECK(tree.open() == 0);
    if (decoded.ok()) {
      CHECK(decoded.used == skipped.used);
    } else {
      CHECK(decoded.code == skipped.code);
      CHECK(decoded.offset == skipped.offset);
    }
    if (size == 0 || data[0] == kCompressed || data[0] == kLocal) continue;
    const Outcome inner = skip_inner(input.subspan(1), limits);
    CHECK(inner.ok() == skipped.ok());
    CHECK(!inner.ok() || inner.used + 1 == skipped.used);
  }
  return 0;
}
