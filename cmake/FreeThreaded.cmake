# Asks each Python of TYPHON_FREE_THREADED what a typhon._native for it needs. Sets TYPHON_FREE_THREADED_TAGS (one for each
# ABI, such as 313t) and, by tag, TYPHON_FREE_THREADED_SUFFIX_… (what such a module's file name ends in) and
# TYPHON_FREE_THREADED_INCLUDE_….

set(TYPHON_FREE_THREADED_TAGS "")
foreach(python IN LISTS TYPHON_FREE_THREADED)
  execute_process(
    COMMAND ${python} -I -c "
import sys, sysconfig
assert sysconfig.get_config_var('Py_GIL_DISABLED'), 'it has a GIL'
print('%d%dt' % sys.version_info[:2], sysconfig.get_config_var('EXT_SUFFIX'), sysconfig.get_path('include'),
      sysconfig.get_path('platinclude'), sep=';', end='')"
    OUTPUT_VARIABLE answer ERROR_VARIABLE refusal RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${python} is no free-threaded Python that typhon._native can be built for:\n${refusal}")
  endif()
  list(GET answer 0 tag)
  list(GET answer 1 suffix)
  list(GET answer 2 include)
  list(GET answer 3 configuration)  # where pyconfig.h is, mostly the same
  if(NOT EXISTS ${include}/Python.h)
    message(FATAL_ERROR "${python} has no headers: there is no Python.h in ${include}")
  endif()
  if(NOT tag IN_LIST TYPHON_FREE_THREADED_TAGS)
    list(APPEND TYPHON_FREE_THREADED_TAGS ${tag})
    set(TYPHON_FREE_THREADED_SUFFIX_${tag} ${suffix})
    set(TYPHON_FREE_THREADED_INCLUDE_${tag} ${include} ${configuration})
  endif()
endforeach()
