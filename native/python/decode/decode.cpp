#include "python/codec.h"

#include "python/decode/decoder.h"

namespace typhon::python {
namespace {

// A decode makes nothing but live objects, which the cyclic collector of Python 3.11 would walk again and
// again while they are made. Later versions collect between bytecodes only.
class CollectorPause {
 public:
  explicit CollectorPause(bool wanted) noexcept
      : paused_(wanted && Py_Version < kPython312 && PyGC_Disable() == 1) {}
  ~CollectorPause() {
    if (paused_) PyGC_Enable();
  }
  CollectorPause(const CollectorPause&) = delete;
  CollectorPause& operator=(const CollectorPause&) = delete;

 private:
  bool paused_;
};

constexpr std::size_t kLongInput = 4096;

}  // namespace

PyObject* decode(ModuleState& state, std::span<const std::uint8_t> input,
                 const DecodeOptions& options) noexcept {
  const CollectorPause pause(input.size() > kLongInput);
  DecodeContext context(state, options);
  Decoder decoder(context, input.size());
  etf::Limits limits;
  limits.max_depth = options.max_depth;
  limits.max_atoms = options.max_atoms;
  limits.max_inflated = options.max_inflated;
  if (options.lent != nullptr) limits.loans = options.lent->count();
  PyObject* object = nullptr;
  const etf::Outcome outcome = etf::decode(input, decoder, limits, object);
  return outcome.ok() ? object : nullptr;
}

}  // namespace typhon::python
