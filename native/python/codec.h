// The codec: terms in External Term Format to Python objects and back, in the native dialect of
// docs/internals.md.
//
// Both functions need the GIL of the interpreter that `ModuleState` belongs to, keep it, and may run Python
// code (imports, attributes of user classes). They leave nothing behind on failure.
#pragma once

#include "python/cpython.h"

#include "etf/sink.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace typhon::python {

struct Erlport;
struct ModuleState;
class ObjectTable;

inline constexpr std::uint32_t kMaxDepth = 10'000;

// The binaries that came beside a term, by the index that stands in it for each. Valid during one decode.
class LentBinaries {
 public:
  LentBinaries() noexcept = default;
  LentBinaries(const LentBinaries&) = delete;
  LentBinaries& operator=(const LentBinaries&) = delete;
  virtual ~LentBinaries() = default;
  [[nodiscard]] virtual std::uint32_t count() const noexcept = 0;
  // Nothing when there is no such one.
  virtual std::span<const std::uint8_t> bytes(std::uint32_t index) noexcept = 0;
  // A new object with the buffer protocol whose memory is that, for as long as it lives. Null: an exception
  // is set.
  virtual PyObject* owner(std::uint32_t index) noexcept = 0;
};

// Takes large binaries that are to go beside a term.
class BinaryLender {
 public:
  BinaryLender() noexcept = default;
  BinaryLender(const BinaryLender&) = delete;
  BinaryLender& operator=(const BinaryLender&) = delete;
  virtual ~BinaryLender() = default;
  // Smaller ones are better copied.
  [[nodiscard]] virtual std::size_t at_least() const noexcept = 0;
  // An object with the buffer protocol whose bytes nothing can change while it lives.
  [[nodiscard]] virtual bool is_immutable(PyObject* owner) const noexcept = 0;
  // `bytes` are of the owner's, which is immutable. False: not this one, it is to be copied.
  virtual bool lend(PyObject* owner, std::span<const std::uint8_t> bytes, std::uint32_t& index) noexcept = 0;
};

// Shows an object to whoever gets its handle.
class Painter {
 public:
  Painter() noexcept = default;
  Painter(const Painter&) = delete;
  Painter& operator=(const Painter&) = delete;
  virtual ~Painter() = default;
  // May run Python code, and leaves no exception. False: it has no picture. The text is UTF-8.
  virtual bool paint(PyObject* object, std::string& text) noexcept = 0;
};

struct DecodeOptions {
  std::uint32_t max_depth = kMaxDepth;
  std::uint64_t max_atoms = 1ull << 20;       // atoms that this interpreter has not got yet
  std::uint64_t max_inflated = 256ull << 20;  // bytes that a compressed term may expand to

  // An object with the buffer protocol whose memory the input lies in, and which keeps that memory as it is:
  // then Typhon.Buffer and Typhon.Array are views of it. Null: they get a copy of their bytes.
  PyObject* buffer_owner = nullptr;

  // Binaries that the term names and does not hold. Null: a term that names one is an error.
  LentBinaries* lent = nullptr;

  // Where Typhon.Object handles are looked up. Null: such a handle is an error.
  const ObjectTable* objects = nullptr;

  // The dialect of ErlPort. Null: the native one.
  const Erlport* erlport = nullptr;

  // {:fraction, numerator, denominator} and {:complex, real, imaginary} are what they say.
  bool tagged = false;

  // What paths in errors start with. With `parts`, element i of a root tuple is called parts[i]:
  // {"module", "function", "args", "kwargs"} makes a path args[0]["user"].
  std::string_view root = "term";
  std::span<const std::string_view> parts = {};
};

// The term that `input` is, version byte and all. New reference, or nullptr with an exception set:
// typhon.DecodeError (which has .path, .reason, .code and .offset), or what must not be wrapped, such as
// MemoryError or an interrupt.
[[nodiscard]] PyObject* decode(ModuleState&, std::span<const std::uint8_t> input,
                               const DecodeOptions&) noexcept;

// What becomes of a str with lone surrogates, as Python makes them of file names and arguments that are not
// UTF-8.
enum class Surrogates : unsigned {
  kRefuse,       // an error that names the pool's option
  kBytes,        // the bytes that such a name was
  kReplace,      // U+FFFD in their place
  kRefuseAlone,  // outside of any pool
};

struct EncodeOptions {
  std::uint32_t max_depth = kMaxDepth;
  bool mapset_version = false;  // write `version: 2` into a MapSet, for Elixir versions that expect it
  bool duration = false;        // a timedelta is a Duration, which Elixir has from 1.17 on
  bool tagged = false;          // a Fraction and a complex number are tuples that name them

  // Takes the objects that have no other form, which then go out as Typhon.Object. Null: such an object is an
  // error.
  ObjectTable* objects = nullptr;
  // Becomes true when one was put there. May be null.
  bool* has_objects = nullptr;

  // Shows them. Null: their handles are without a picture.
  Painter* painter = nullptr;
  // The object itself goes out so, also when it has another form.
  bool as_object = false;

  // Takes large immutable bytes, which then stand in the term by their index only. Null: they are copied.
  BinaryLender* lender = nullptr;

  // The dialect of ErlPort. Null: the native one.
  const Erlport* erlport = nullptr;
  // In that dialect: ASCII atoms in the form that every reader knows, ErlPort's own included.
  bool old_atoms = false;

  Surrogates surrogates = Surrogates::kRefuseAlone;

  std::string_view root = "value";
  std::span<const std::string_view> parts = {};
};

// Appends `object` to the sink. True, or false with an exception set (typhon.EncodeError has .path, .reason
// and .type_name; others as above): the sink then holds what it held before.
[[nodiscard]] bool encode(ModuleState&, PyObject* object, etf::Sink&, const EncodeOptions&) noexcept;
// The same without the version byte, for a value inside a term whose outer part the caller writes.
[[nodiscard]] bool encode_term(ModuleState&, PyObject* object, etf::Sink&, const EncodeOptions&) noexcept;

}  // namespace typhon::python
