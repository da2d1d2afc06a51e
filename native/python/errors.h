// The exceptions of typhon._native, and how the codec raises them.
#pragma once

#include "python/cpython.h"
#include "python/ref.h"

#include <cstdint>
#include <string>

namespace typhon::python {

struct ModuleState;

// Makes TyphonError, EncodeError, DecodeError and Cancelled in `state`, and what take_back_cancelled() calls.
// 0, or -1 with an exception set.
int init_errors(ModuleState& state) noexcept;

// Sets typhon.DecodeError "<path>: <reason>" with .path, .reason, .code and .offset. An exception that is set
// already becomes its cause. May throw std::bad_alloc.
void raise_decode_error(ModuleState&, const std::string& path, const std::string& reason, const char* code,
                        std::uint64_t offset);
// Sets typhon.EncodeError "<path>: <reason>" with .path, .reason and .type_name; the same otherwise.
void raise_encode_error(ModuleState&, const std::string& path, const std::string& reason,
                        const std::string& type_name);

// Puts the exception that is set aside, and back at its end: for code that must not see one.
class ExceptionAside {
 public:
  ExceptionAside() noexcept { PyErr_Fetch(&parts_[0], &parts_[1], &parts_[2]); }
  ~ExceptionAside() { PyErr_Restore(parts_[0], parts_[1], parts_[2]); }
  ExceptionAside(const ExceptionAside&) = delete;
  ExceptionAside& operator=(const ExceptionAside&) = delete;

 private:
  PyObject* parts_[3];
};

// Takes back what PyThreadState_SetAsyncExc has sent to this thread, a Cancelled that is not wanted any more:
// it is raised where nothing is done, and dropped. (Sending nullptr in its place leaves Python 3.11 with the
// belief that something is on its way; a function that is traced does not go on for as long.)
// Whether there was one.
bool take_back_cancelled(ModuleState&) noexcept;

// Whether the exception that is set must be passed on as it is rather than wrapped: an interrupt, a lack of
// memory.
[[nodiscard]] bool must_propagate() noexcept;

// The text of the exception that is set, which stays set: "ValueError: month must be in 1..12". For an import
// that fails also what to do about it (typhon._hints).
std::string current_exception_text();

}  // namespace typhon::python
