// For tests and fuzzers in C++: a Python inside this program, with the codec as the module `_native`.
#pragma once

#include "python/cpython.h"
#include "python/module_state.h"
#include "python/ref.h"

#include <cstdlib>

namespace typhon::python {

// One for each program, from its start to its end: Python does not start twice cleanly.
class EmbeddedPython {
 public:
  // TYPHON_PYTHON_HOME (set by CMake) is the prefix of the Python that this was built against.
  EmbeddedPython() {
    ::setenv("PYTHONHOME", TYPHON_PYTHON_HOME, 1);
    ::setenv("PYTHONMALLOC", "malloc", 1);  // sanitizers see the ends of its blocks
    PyImport_AppendInittab("_native", init);
    Py_InitializeEx(0);
    module_ = PyRef::steal(PyImport_ImportModule("_native"));
  }
  ~EmbeddedPython() {
    module_.reset();
    Py_FinalizeEx();
  }
  EmbeddedPython(const EmbeddedPython&) = delete;
  EmbeddedPython& operator=(const EmbeddedPython&) = delete;

  [[nodiscard]] ModuleState& state() const noexcept { return ModuleState::of(module_.get()); }

  // The value of a Python expression in which `typhon` is the codec's module; empty with an exception set
  // otherwise.
  [[nodiscard]] PyRef eval(const char* expression) const noexcept {
    const PyRef names = PyRef::steal(Py_BuildValue("{sOss}", "typhon", module_.get(), "__name__", "test"));
    const PyRef code = PyRef::steal(Py_CompileString(expression, "<test>", Py_eval_input));
    return code && names ? PyRef::steal(PyEval_EvalCode(code.get(), names.get(), names.get())) : PyRef();
  }

 private:
  static PyObject* init() noexcept {
    static PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(add_codec)}, {0, nullptr}};
    static PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, "_native",   nullptr,
        sizeof(ModuleSlot),    nullptr,     slots,
        traverse_codec,        clear_codec, [](void* module) { free_codec(static_cast<PyObject*>(module)); }};
    return PyModuleDef_Init(&definition);
  }

  PyRef module_;
};

}  // namespace typhon::python
