#include "etf/writer.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "etf/leaf.h"

namespace typhon::etf {

bool Writer::make_room(std::size_t bytes) noexcept {
  if (!ok()) return false;
  if (bytes > SIZE_MAX - sink_.size || !sink_.grow(sink_.size + bytes) || sink_.capacity - sink_.size < bytes)
    return fail(Code::kTooLarge, "room in the destination");
  return true;
}

bool Writer::small_big(bool negative, std::uint64_t magnitude) noexcept {
  std::uint8_t* const p = room(3 + 8);
  if (p == nullptr) return false;
  const auto size = static_cast<std::size_t>((std::bit_width(magnitude) + 7) / 8);
  p[0] = kSmallBig;
  p[1] = static_cast<std::uint8_t>(size);
  p[2] = negative ? 1 : 0;
  store_big(p + 3, byte_swap(magnitude));  // little endian
  return wrote(3 + size);
}

std::uint8_t* Writer::big_in_place(bool negative, std::size_t size) noexcept {
  if (size > std::numeric_limits<std::uint32_t>::max()) {
    fail(Code::kTooLarge, "an integer of fewer than 2^32 bytes");
    return nullptr;
  }
  const std::size_t header = size <= 255 ? 3 : 6;
  std::uint8_t* const p = room(header + size);
  if (p == nullptr) return nullptr;
  if (header == 3) {
    p[0] = kSmallBig;
    p[1] = static_cast<std::uint8_t>(size);
  } else {
    p[0] = kLargeBig;
    store_big(p + 1, static_cast<std::uint32_t>(size));
  }
  p[header - 1] = negative ? 1 : 0;
  sink_.size += header + size;
  return p + header;
}

bool Writer::big(bool negative, Bytes magnitude) noexcept {
  while (!magnitude.empty() && magnitude.back() == 0) magnitude = magnitude.first(magnitude.size() - 1);
  if (magnitude.size() <= 8) {
    std::uint64_t value = 0;
    for (std::size_t i = magnitude.size(); i-- != 0;) value = value << 8 | magnitude[i];
    constexpr std::uint64_t kLimit = std::uint64_t{1} << 31;  // beyond it, big forms in any case
    if (value > kLimit) return small_big(negative, value);
    const auto small = static_cast<std::int64_t>(value);
    return integer(negative ? -small : small);
  }
  std::uint8_t* const p = big_in_place(negative, magnitude.size());
  if (p == nullptr) return false;
  std::memcpy(p, magnitude.data(), magnitude.size());
  return true;
}

bool Writer::atom(std::string_view utf8) noexcept {
  if (!detail::check_atom(utf8)) return fail(Code::kInvalid, "an atom of at most 255 characters in UTF-8");
  if (utf8.size() <= 255) return known_atom(utf8);
  std::uint8_t* const p = room(3 + utf8.size());
  if (p == nullptr) return false;
  p[0] = kAtomUtf8;
  store_big(p + 1, static_cast<std::uint16_t>(utf8.size()));
  std::memcpy(p + 3, utf8.data(), utf8.size());
  return wrote(3 + utf8.size());
}

bool Writer::bits(Bytes bytes, unsigned bits_in_last_byte) noexcept {
  if (bits_in_last_byte == 8 || bytes.empty()) return binary(bytes);
  if (bits_in_last_byte == 0 || bits_in_last_byte > 8)
    return fail(Code::kInvalid, "1 to 8 bits in the last byte");
  if (bytes.size() > std::numeric_limits<std::uint32_t>::max())
    return fail(Code::kTooLarge, "a bit string of fewer than 2^32 bytes");
  std::uint8_t* const p = room(6 + bytes.size());
  if (p == nullptr) return false;
  p[0] = kBitBinary;
  store_big(p + 1, static_cast<std::uint32_t>(bytes.size()));
  p[5] = static_cast<std::uint8_t>(bits_in_last_byte);
  std::memcpy(p + 6, bytes.data(), bytes.size());
  std::uint8_t& last = p[5 + bytes.size()];
  last = static_cast<std::uint8_t>(last & (0xff00u >> bits_in_last_byte));
  return wrote(6 + bytes.size());
}

std::uint8_t* Writer::string_in_place(std::size_t size) noexcept {
  std::uint8_t* const p = room(3 + size);
  if (p == nullptr) return nullptr;
  p[0] = kString;
  store_big(p + 1, static_cast<std::uint16_t>(size));
  wrote(3 + size);
  return p + 3;
}

bool Writer::string(Bytes bytes) noexcept {
  if (bytes.empty()) return nil();
  if (bytes.size() > kMaxStringLength) {
    if (!list_header(bytes.size())) return false;
    for (const std::uint8_t byte : bytes) {
      if (!integer(byte)) return false;
    }
    return nil();
  }
  std::uint8_t* const p = string_in_place(bytes.size());
  if (p == nullptr) return false;
  std::memcpy(p, bytes.data(), bytes.size());
  return true;
}

bool Writer::pid(const PidView& pid) noexcept {
  if (!put_tag(kNewPid) || !atom(pid.node)) return false;
  std::uint8_t* const p = room(12);
  if (p == nullptr) return false;
  store_big(p, pid.id);
  store_big(p + 4, pid.serial);
  store_big(p + 8, pid.creation);
  return wrote(12);
}

bool Writer::port(const PortView& port) noexcept {
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 28;  // NEW_PORT_EXT has 28 significant bits
  const bool is_long = port.id >= kLongest;
  if (!put_tag(is_long ? kV4Port : kNewPort) || !atom(port.node)) return false;
  std::uint8_t* p = room(12);
  if (p == nullptr) return false;
  std::size_t size = 4;
  if (is_long) {
    store_big(p, port.id);
    size = 8;
  } else {
    store_big(p, static_cast<std::uint32_t>(port.id));
  }
  store_big(p + size, port.creation);
  return wrote(size + 4);
}

bool Writer::reference(const ReferenceView& reference) noexcept {
  if (reference.words.size() % 4 != 0 || reference.count() > kMaxReferenceWords)
    return fail(Code::kInvalid, "a reference of at most 5 words");
  std::uint8_t* p = room(3);
  if (p == nullptr) return false;
  p[0] = kNewerReference;
  store_big(p + 1, static_cast<std::uint16_t>(reference.count()));
  wrote(3);
  if (!atom(reference.node)) return false;
  p = room(4 + reference.words.size());
  if (p == nullptr) return false;
  store_big(p, reference.creation);
  if (!reference.words.empty()) std::memcpy(p + 4, reference.words.data(), reference.words.size());
  return wrote(4 + reference.words.size());
}

bool Writer::exported_fun(std::string_view module, std::string_view function, std::uint32_t arity) noexcept {
  return put_tag(kExport) && atom(module) && atom(function) && integer(arity);
}

bool compress(Sink& sink, std::size_t start, int level) noexcept {
  constexpr std::size_t kHeader = 6;
  if (level <= 0 || sink.size < start + 2 || sink.data[start] != kVersion) return true;
  // The first tag says whether this is already compressed, or private to another decoder.
  if (sink.data[start + 1] == kCompressed || sink.data[start + 1] == kLocal) return true;
  const std::size_t plain = sink.size - start - 1;
  if (plain > std::numeric_limits<std::uint32_t>::max()) return true;  // its size has no field to stand in
  if (plain < kHeader) return true;
  const std::size_t most = plain - (kHeader - 1);  // as long as the plain form, at most

  struct Free {
    void operator()(std::uint8_t* data) const noexcept { std::free(data); }
  };
  const std::unique_ptr<std::uint8_t[], Free> packed(static_cast<std::uint8_t*>(std::malloc(most)));
  if (packed == nullptr) return false;
  z_stream zlib{};
  if (deflateInit(&zlib, std::min(level, 9)) != Z_OK) return false;
  zlib.next_in = sink.data + start + 1;
  zlib.avail_in = static_cast<uInt>(plain);
  zlib.next_out = packed.get();
  zlib.avail_out = static_cast<uInt>(most);
  const int status = deflate(&zlib, Z_FINISH);
  const std::size_t size = zlib.total_out;
  deflateEnd(&zlib);
  if (status != Z_STREAM_END) return true;  // longer than the plain form

  std::uint8_t* const p = sink.data + start;
  p[1] = kCompressed;
  store_big(p + 2, static_cast<std::uint32_t>(plain));
  std::memcpy(p + kHeader, packed.get(), size);
  sink.size = start + kHeader + size;
  return true;
}

}  // namespace typhon::etf
