// Arbitrary bytes through the Python codec: the first says how, the others follow the version byte.
//
// What decodes can be encoded, or is refused with an EncodeError; what was encoded is a term, which decodes
// again (or is refused: bytes that are no text come back as a binary) and is then as long as before. Binaries
// may come beside the term, and go so. Nothing else is ever raised. The same in the dialect of ErlPort, whose
// pickles stay closed: they would run what they say.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "etf/skip.h"
#include "etf/tags.h"
#include "fuzz/check.h"
#include "python/codec.h"
#include "testing/embedded_python.h"
#include "testing/loans.h"

extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}  // python/tests/test_leaks.py sees to those

namespace {

using namespace typhon;
using namespace typhon::python;

const EmbeddedPython* embedded = nullptr;

// False, with the exception cleared: it is one that the codec may raise.
bool refused(const PyRef& type) {
  CHECK(PyErr_ExceptionMatches(type.get()) != 0);
  PyErr_Clear();
  return false;
}

bool read(std::span<const std::uint8_t> term, const DecodeOptions& options, PyRef& value) {
  value = PyRef::steal(decode(embedded->state(), term, options));
  CHECK(static_cast<bool>(value) == (PyErr_Occurred() == nullptr));
  return value || refused(embedded->state().decode_error);
}

bool write(PyBorrowed value, etf::HeapSink& sink, TestLoans* loans, EncodeOptions options) {
  options.lender = loans;
  if (!encode(embedded->state(), value.get(), sink, options)) {
    CHECK(sink.size == 0);
    return refused(embedded->state().encode_error);
  }
  CHECK(PyErr_Occurred() == nullptr);
  etf::Limits limits;
  if (loans != nullptr) limits.loans = loans->count();
  const etf::Outcome outcome = etf::skip(sink.bytes(), limits);
  CHECK(outcome.ok() && outcome.used == sink.size);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  ::setenv("TYPHON_ERLPORT_UNPICKLE", "0", 1);
  embedded = new EmbeddedPython;
  const PyRef imported = embedded->eval(
      "[__import__('sys').modules.update(typhon=__import__('types').SimpleNamespace(_native=typhon)),"
      " __import__('sys').path.insert(0, '" TYPHON_SOURCE_DIR
      "/compat/erlport/priv/python'), __import__('erlport.erlterms')]");
  CHECK(imported && embedded->state().erlport);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const PyRef input = PyRef::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
  auto* const bytes = reinterpret_cast<std::uint8_t*>(PyBytes_AsString(input.get()));
  bytes[0] = etf::kVersion;
  std::copy(data + 1, data + size, bytes + 1);

  DecodeOptions options;
  options.max_inflated = 1 << 20;
  if ((data[0] & 1) != 0) options.buffer_owner = input.get();
  if ((data[0] & 2) != 0) options.max_depth = 4;
  constexpr std::uint8_t kText[] = {'t', 0xc3, 0xa4};
  constexpr std::uint8_t kNoText[] = {0xff, 'n'};
  TestLoans came;
  came.add(kText);
  came.add(kNoText);
  if ((data[0] & 4) != 0) options.lent = &came;
  const Erlport* const erlport = (data[0] & 16) != 0 ? embedded->state().erlport.get() : nullptr;
  options.erlport = erlport;
  options.tagged = (data[0] & 32) != 0;
  EncodeOptions written;
  written.erlport = erlport;
  written.tagged = options.tagged;
  written.duration = (data[0] & 64) != 0;
  PyRef value;
  if (!read({bytes, size}, options, value)) return 0;
  etf::HeapSink first;
  TestLoans lent(1);
  TestLoans* const lender = (data[0] & 8) != 0 ? &lent : nullptr;
  if (!write(value, first, lender, written)) return 0;
  PyRef again;
  DecodeOptions beside;
  beside.lent = lender;
  beside.erlport = erlport;
  beside.tagged = options.tagged;
  if (!read(first.bytes(), beside, again)) return 0;
  if (lender != nullptr) return 0;  // bytes come back as text, which is lent from another size on
  etf::HeapSink second;
  CHECK(write(again, second, nullptr, written));
  CHECK(second.size == first.size);
  return 0;
}
