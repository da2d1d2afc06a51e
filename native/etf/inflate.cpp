#include "etf/inflate.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "base/bytes.h"
#include "etf/tags.h"

namespace typhon::etf {

Outcome inflate(Bytes input, std::uint64_t max_inflated, Inflated& out) noexcept {
  constexpr std::size_t kHeader = 6;
  constexpr std::uint64_t kMaxRatio = 1032;
  if (input.size() < kHeader)
    return Outcome::failure(Code::kTruncated, 1, "the size of the compressed term and a zlib stream");
  const std::uint64_t size = load_big<std::uint32_t>(input.data() + 2);
  const Bytes stream = input.subspan(kHeader);
  if (size == 0) return Outcome::failure(Code::kInvalid, 1, "a compressed term of at least a byte");
  if (size > max_inflated)
    return Outcome::failure(Code::kTooLarge, 1, "a compressed term within the size limit");
  if (stream.size() < size / kMaxRatio)
    return Outcome::failure(Code::kTruncated, 1, "as many compressed bytes as that inflated size takes");

  // One byte more than claimed shows a stream that holds more.
  out.data_.reset(static_cast<std::uint8_t*>(std::malloc(size + 1)));
  out.size_ = size;
  if (out.data_ == nullptr) return Outcome::failure(Code::kSystem, 1, "memory for the inflated term");

  z_stream zlib{};
  if (inflateInit(&zlib) != Z_OK) return Outcome::failure(Code::kSystem, 1, "memory for zlib");
  zlib.next_in = const_cast<Bytef*>(stream.data());  // zlib only reads there
  zlib.next_out = out.data_.get();
  zlib.avail_out = static_cast<uInt>(std::min<std::uint64_t>(size + 1, std::numeric_limits<uInt>::max()));
  std::uint64_t fed = 0;
  int status = Z_OK;
  while (status == Z_OK) {
    if (zlib.avail_in == 0) {  // zlib counts in 32 bits
      const std::uint64_t chunk = std::min<std::uint64_t>(stream.size() - fed, 1u << 30);
      if (chunk == 0) break;
      zlib.avail_in = static_cast<uInt>(chunk);
      fed += chunk;
    }
    status = ::inflate(&zlib, Z_NO_FLUSH);
    if (status == Z_BUF_ERROR && zlib.avail_in == 0 && fed < stream.size()) status = Z_OK;
    if (zlib.avail_out == 0) break;
  }
  const std::uint64_t made = zlib.total_out;
  const std::uint64_t taken = zlib.total_in;
  const bool starved = zlib.avail_in == 0 && fed == stream.size();
  inflateEnd(&zlib);

  if (status == Z_STREAM_END) {
    if (made != size)
      return Outcome::failure(Code::kInvalid, 1, "a zlib stream of exactly the size it claims");
    return Outcome::success(kHeader + taken);
  }
  if (status == Z_MEM_ERROR) return Outcome::failure(Code::kSystem, 1, "memory for zlib");
  if (made > size) return Outcome::failure(Code::kInvalid, 1, "a zlib stream of exactly the size it claims");
  if ((status == Z_OK || status == Z_BUF_ERROR) && starved)
    return Outcome::failure(Code::kTruncated, 1, "more bytes: the zlib stream is cut off");
  return Outcome::failure(Code::kInvalid, 1, "a zlib stream");
}

}  // namespace typhon::etf
