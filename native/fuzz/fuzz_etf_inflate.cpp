// Compressed terms, three ways by the first byte: a hostile zlib stream as it is; good streams whose content
// is hostile (the fuzzer would never find their checksums); and what compress() writes, read back.
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "etf/decode.h"
#include "etf/skip.h"
#include "etf/writer.h"
#include "fuzz/check.h"
#include "testing/tree.h"

namespace {

using namespace typhon;
using namespace typhon::etf;

Outcome read(const std::string& message, std::string* written = nullptr) {
  // A limit that is reached now and then.
  Limits limits;
  limits.max_inflated = 100'000;
  Tree tree;
  tree.reject_duplicate_keys = false;
  Tree::Value value{};
  const Outcome outcome = decode(Tree::bytes_of(message), tree, limits, value);
  const Outcome skipped = skip(Tree::bytes_of(message), limits);
  CHECK(outcome.ok() == (skipped.ok() && skipped.used == message.size()));
  CHECK(outcome.ok() || skipped.ok() || outcome.code == skipped.code);
  CHECK(tree.open() == 0);
  if (outcome.ok() && written != nullptr) *written = tree.encode(value);
  return outcome;
}

std::string header(std::size_t size) {
  std::string bytes(6, '\0');
  bytes[0] = static_cast<char>(kVersion);
  bytes[1] = kCompressed;
  store_big(bytes.data() + 2, static_cast<std::uint32_t>(size));
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string version(1, static_cast<char>(kVersion));
  switch (data[0] % 3) {
    case 0: {
      (void)read(version + static_cast<char>(kCompressed) + rest);
      break;
    }
    case 1: {
      std::string packed(compressBound(rest.size()), '\0');
      uLongf packed_size = packed.size();
      CHECK(compress2(reinterpret_cast<Bytef*>(packed.data()), &packed_size,
                      reinterpret_cast<const Bytef*>(rest.data()), rest.size(), data[0] / 3 % 10) == Z_OK);
      packed.resize(packed_size);
      std::string plain_text;
      std::string packed_text;
      const Outcome plain = read(version + rest, &plain_text);
      const Outcome outcome = read(header(rest.size()) + packed, &packed_text);
      const bool nested = rest[0] == static_cast<char>(kCompressed) || rest[0] == static_cast<char>(kLocal);
      CHECK(outcome.ok() == (plain.ok() && !nested));
      CHECK(!outcome.ok() || plain_text == packed_text);
      CHECK(outcome.ok() || outcome.in_inflated);
      CHECK(outcome.ok() || nested || outcome.offset + 1 == plain.offset);
      break;
    }
    default: {
      HeapSink sink;
      Writer writer(sink);
      CHECK(writer.version() && writer.binary(rest));
      const std::string plain = Tree::text(sink.bytes());
      CHECK(compress(sink, 0, data[0] / 3 % 10));
      CHECK(sink.size <= plain.size());
      std::string written;
      CHECK(read(Tree::text(sink.bytes()), &written).ok());
      CHECK(written == plain);
      break;
    }
  }
  return 0;
}
