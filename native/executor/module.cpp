// typhon._native: assembles the extension module from the codec (native/python) and the worker.
#include "executor/bulk.h"
#include "executor/section.h"
#include "executor/worker.h"
#include "python/module_state.h"

namespace typhon::executor {
namespace {

int exec(PyObject* module) noexcept {
  if (python::add_codec(module) != 0 || add_bulk(module) != 0) return -1;
  return add_worker(module) == 0 && add_sections(module) == 0 ? add_exports(module) : -1;
}
int traverse(PyObject* module, visitproc visit, void* arg) noexcept {
  return python::traverse_codec(module, visit, arg);
}
int clear(PyObject* module) noexcept { return python::clear_codec(module); }
void free(void* module) noexcept { python::free_codec(static_cast<PyObject*>(module)); }

constexpr const char* kDoc = "The native part of typhon: the codec. Import typhon instead.";

#ifdef Py_GIL_DISABLED
PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec)},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},  // or its import would switch the GIL on
    {0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "typhon._native",
                          kDoc,
                          sizeof(ExecutorSlot),
                          nullptr,
                          slots,
                          traverse,
                          clear,
                          free};

PyModuleDef* definition_for_this_python() noexcept { return &definition; }
#else
// Slots that the headers for 3.11 do not name, and that a 3.11 would refuse. From 3.12 on an interpreter with
// a GIL of its own imports only modules that say they can live there.
constexpr int kModMultipleInterpreters = 3;
void* const kPerInterpreterGil = reinterpret_cast<void*>(2);

PyModuleDef_Slot slots_311[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec)},
    {0, nullptr},
};
PyModuleDef_Slot slots_312[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec)},
    {kModMultipleInterpreters, kPerInterpreterGil},
    {0, nullptr},
};

// CPython keeps its own book-keeping in a definition, under its own lock; nothing here changes after that.
PyModuleDef definition_311 = {PyModuleDef_HEAD_INIT,
                              "typhon._native",
                              kDoc,
                              sizeof(ExecutorSlot),
                              nullptr,
                              slots_311,
                              traverse,
                              clear,
                              free};
PyModuleDef definition_312 = {PyModuleDef_HEAD_INIT,
                              "typhon._native",
                              kDoc,
                              sizeof(ExecutorSlot),
                              nullptr,
                              slots_312,
                              traverse,
                              clear,
                              free};

PyModuleDef* definition_for_this_python() noexcept {
  return Py_Version >= python::kPython312 ? &definition_312 : &definition_311;
}
#endif

}  // namespace
}  // namespace typhon::executor

PyMODINIT_FUNC PyInit__native() {  // NOLINT(readability-identifier-naming)
  using namespace typhon;
  return PyModuleDef_Init(executor::definition_for_this_python());
}
