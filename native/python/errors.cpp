#include "python/errors.h"

#include "python/module_state.h"
#include "python/path.h"

namespace typhon::python {
namespace {

PyRef to_str(const std::string& text) noexcept {
  return PyRef::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

// The exception that is set, as an object with its traceback; cleared. Empty when none is.
PyRef take_exception() noexcept {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (type == nullptr) return {};
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  const PyRef type_owner = PyRef::steal(type);
  const PyRef traceback_owner = PyRef::steal(traceback);
  return PyRef::steal(value);
}

void put_exception(PyRef exception) noexcept {
  PyObject* const type = take(reinterpret_cast<PyObject*>(Py_TYPE(exception.get())));
  PyObject* const traceback = PyException_GetTraceback(exception.get());
  PyErr_Restore(type, exception.release(), traceback);
}

// An exception of `type` with the text "<path>: <reason>"; empty with another exception set.
PyRef make_error(PyBorrowed type, const std::string& path, const std::string& reason) {
  const PyRef message = to_str(path + ": " + reason);
  return PyRef::steal(message ? PyObject_CallFunctionObjArgs(type.get(), message.get(), nullptr) : nullptr);
}

bool set_attribute(const PyRef& exception, const char* name, const PyRef& value) noexcept {
  return exception && value && PyObject_SetAttrString(exception.get(), name, value.get()) == 0;
}

// With `cause`, which may be empty, behind it.
void raise(PyRef exception, PyRef cause) noexcept {
  if (cause) {
    PyException_SetContext(exception.get(), take(cause.get()));
    PyException_SetCause(exception.get(), cause.release());
  }
  put_exception(std::move(exception));
}

PyRef make_exception(const char* name, const char* doc, PyRef bases, PyRef defaults) noexcept {
  if (!bases || !defaults) return {};
  return PyRef::steal(PyErr_NewExceptionWithDoc(name, doc, bases.get(), defaults.get()));
}

}  // namespace

int init_errors(ModuleState& state) noexcept {
  state.typhon_error = make_exception("typhon.TyphonError", "The base of the errors of typhon.",
                                      PyRef::borrow(PyExc_Exception), PyRef::steal(PyDict_New()));
  if (!state.typhon_error) return -1;
  state.encode_error = make_exception(
      "typhon.EncodeError",
      "A value that cannot go to the BEAM.\n\n"
      "path: where it is, such as 'result[\"rows\"][3]'. type_name: its type. reason: what is wrong with it.",
      PyRef::steal(PyTuple_Pack(2, state.typhon_error.get(), PyExc_ValueError)),
      PyRef::steal(Py_BuildValue("{ssssss}", "path", "", "reason", "", "type_name", "")));
  state.decode_error = make_exception(
      "typhon.DecodeError",
      "Bytes that are no term, or a term that Python cannot hold.\n\n"
      "path: where in the term, such as 'args[0][\"user\"]'. offset: its first byte. reason: what is wrong "
      "with it.\n"
      "code: 'truncated', 'invalid', 'unsupported', 'too_deep', 'too_large', 'too_many_atoms' or 'trailing' "
      "for the\n"
      "bytes; 'value' for a well-formed term without a counterpart in Python.",
      PyRef::steal(PyTuple_Pack(2, state.typhon_error.get(), PyExc_ValueError)),
      PyRef::steal(Py_BuildValue("{sssssssi}", "path", "", "reason", "", "code", "value", "offset", 0)));
  state.cancelled = make_exception(
      "typhon.Cancelled",
      "Raised in a running call whose caller gave up: its time is over, or the caller is gone.\n\n"
      "Like KeyboardInterrupt it is no Exception, so that `except Exception` does not swallow it.",
      PyRef::borrow(PyExc_BaseException), PyRef::steal(PyDict_New()));
  const PyRef code = PyRef::steal(Py_CompileString("lambda: None", "<typhon>", Py_eval_input));
  const PyRef names = PyRef::steal(PyDict_New());
  if (code && names) state.nothing = PyRef::steal(PyEval_EvalCode(code.get(), names.get(), names.get()));
  return state.encode_error && state.decode_error && state.cancelled && state.nothing ? 0 : -1;
}

void raise_decode_error(ModuleState& state, const std::string& path, const std::string& reason,
                        const char* code, std::uint64_t offset) {
  PyRef cause = take_exception();  // first: no other exception may be mistaken for it
  PyRef error = make_error(state.decode_error, path, reason);
  const bool complete = set_attribute(error, "path", to_str(path)) &&
                        set_attribute(error, "reason", to_str(reason)) &&
                        set_attribute(error, "code", PyRef::steal(PyUnicode_FromString(code))) &&
                        set_attribute(error, "offset", PyRef::steal(PyLong_FromUnsignedLongLong(offset)));
  if (complete) raise(std::move(error), std::move(cause));
}

void raise_encode_error(ModuleState& state, const std::string& path, const std::string& reason,
                        const std::string& name) {
  PyRef cause = take_exception();
  PyRef error = make_error(state.encode_error, path, reason);
  const bool complete = set_attribute(error, "path", to_str(path)) &&
                        set_attribute(error, "reason", to_str(reason)) &&
                        set_attribute(error, "type_name", to_str(name));
  if (complete) raise(std::move(error), std::move(cause));
}

bool take_back_cancelled(ModuleState& state) noexcept {
  const ExceptionAside aside;
  if (PyRef::steal(PyObject_CallNoArgs(state.nothing.get()))) return false;
  const bool is_cancelled = PyErr_ExceptionMatches(state.cancelled.get()) != 0;
  if (is_cancelled)
    PyErr_Clear();
  else
    PyErr_WriteUnraisable(state.nothing.get());
  return is_cancelled;
}

bool must_propagate() noexcept {
  return PyErr_Occurred() != nullptr &&
         (PyErr_ExceptionMatches(PyExc_Exception) == 0 || PyErr_ExceptionMatches(PyExc_MemoryError) != 0);
}

namespace {

// Empty when it is no text, or one that UTF-8 cannot hold.
std::string utf8_of(const PyRef& text) {
  Py_ssize_t size = 0;
  const char* const utf8 = text ? PyUnicode_AsUTF8AndSize(text.get(), &size) : nullptr;
  return utf8 != nullptr ? std::string(utf8, static_cast<std::size_t>(size)) : std::string();
}

}  // namespace

std::string current_exception_text() {
  PyRef exception = take_exception();
  if (!exception) return "unknown error";
  std::string text;
  if (PyErr_GivenExceptionMatches(exception.get(), PyExc_ImportError) != 0 ||
      PyErr_GivenExceptionMatches(exception.get(), PyExc_AttributeError) != 0) {
    const PyRef hints = PyRef::steal(PyImport_ImportModule("typhon._hints"));
    if (hints) text = utf8_of(PyRef::steal(PyObject_CallMethod(hints.get(), "text", "O", exception.get())));
    PyErr_Clear();
  }
  if (text.empty()) {
    text = type_name(exception);
    const std::string message = utf8_of(PyRef::steal(PyObject_Str(exception.get())));
    if (!message.empty()) text += ": " + message;
  }
  PyErr_Clear();
  put_exception(std::move(exception));
  return text;
}

}  // namespace typhon::python
