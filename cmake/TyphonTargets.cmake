# What every native target has in common: C++20, hidden symbols, strict warnings, sanitizers on demand.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

include(CheckCXXSourceCompiles)
find_package(Threads REQUIRED)
if(TYPHON_TESTS AND TYPHON_GOOGLETEST)
  set(BUILD_GMOCK OFF)
  set(INSTALL_GTEST OFF)
  add_subdirectory(${TYPHON_GOOGLETEST} ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL SYSTEM)
elseif(TYPHON_TESTS)
  find_package(GTest REQUIRED)
endif()
if(TYPHON_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

add_library(typhon_options INTERFACE)
target_compile_options(typhon_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  $<$<BOOL:${TYPHON_WERROR}>:-Werror>)
if(TYPHON_SANITIZE)
  target_compile_options(typhon_options INTERFACE
    -fsanitize=${TYPHON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(typhon_options INTERFACE -fsanitize=${TYPHON_SANITIZE})
endif()

# For what is loaded into a Python: with as much of the C++ library in it as it uses. Each interpreter inside the BEAM would load
# all of libstdc++ otherwise, which is more than the rest of typhon is. Sanitizers want the shared one, and not every system has
# the other.
add_library(typhon_alone INTERFACE)
set(typhon_alone_options -static-libstdc++ -static-libgcc LINKER:--exclude-libs,ALL)
set(CMAKE_REQUIRED_LINK_OPTIONS ${typhon_alone_options})
check_cxx_source_compiles("#include <string>\nint main(int argc, char**) { return std::to_string(argc).empty(); }"
  TYPHON_CAN_STAND_ALONE)
unset(CMAKE_REQUIRED_LINK_OPTIONS)
if(TYPHON_CAN_STAND_ALONE AND NOT TYPHON_SANITIZE)
  target_link_options(typhon_alone INTERFACE ${typhon_alone_options})
endif()

# typhon_library(<layer> SOURCES … DEPENDS …): a static library typhon::<layer>, its headers as <layer>/x.h
# Headers of a layer are found only through a dependency on it: a folder sees native/<itself> and what it names.
function(typhon_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  if(ARG_SOURCES)
    add_library(typhon_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(typhon_${name} PRIVATE typhon_options PUBLIC ${ARG_DEPENDS})
    target_include_directories(typhon_${name} PUBLIC ${PROJECT_SOURCE_DIR}/native)
  else()
    add_library(typhon_${name} INTERFACE)
    target_link_libraries(typhon_${name} INTERFACE ${ARG_DEPENDS})
    target_include_directories(typhon_${name} INTERFACE ${PROJECT_SOURCE_DIR}/native)
  endif()
  add_library(typhon::${name} ALIAS typhon_${name})
endfunction()

# The targets of all tests, and of those with threads of their own, for builds that want nothing else
add_custom_target(typhon_tests)
add_custom_target(typhon_concurrent_tests)

# typhon_test(<name> SOURCES … DEPENDS … [SHARDS <n>] [CONCURRENT] [MODEL]): a GoogleTest program, registered with ctest
# SHARDS: its tests are dealt out to so many runs, for a program that would keep one core busy long after the others.
# CONCURRENT: its threads share memory, which ThreadSanitizer is to see; ctest's label `concurrent`.
# MODEL: it searches a model on one thread, where a sanitizer sees nothing in ten times the time; ctest's label `model`, and no
# test of a build with sanitizers.
function(typhon_test name)
  if(NOT TYPHON_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "CONCURRENT;MODEL" "SHARDS" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE typhon_options ${ARG_DEPENDS} GTest::gtest GTest::gtest_main Threads::Threads)
  target_compile_definitions(${name} PRIVATE TYPHON_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_dependencies(typhon_tests ${name})
  if(ARG_CONCURRENT)
    add_dependencies(typhon_concurrent_tests ${name})
  endif()
  if(ARG_MODEL AND TYPHON_SANITIZE)
    return()
  endif()
  set(runs ${name})
  if(ARG_SHARDS)
    math(EXPR last "${ARG_SHARDS} - 1")
    list(TRANSFORM runs APPEND _0)
    foreach(shard RANGE 1 ${last})
      list(APPEND runs ${name}_${shard})
    endforeach()
  endif()
  foreach(run IN LISTS runs)
    add_test(NAME ${run} COMMAND ${name})
    # Bounds that only end a test that hangs: a machine may be busy.
    set_tests_properties(${run} PROPERTIES TIMEOUT 1800)
    if(ARG_CONCURRENT)
      set_property(TEST ${run} APPEND PROPERTY LABELS concurrent)
    endif()
    if(ARG_MODEL)
      set_property(TEST ${run} APPEND PROPERTY LABELS model)
    endif()
    if(ARG_SHARDS)
      string(REGEX REPLACE ".*_" "" shard ${run})
      set_tests_properties(${run} PROPERTIES ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${shard}")
    endif()
  endforeach()
endfunction()

# typhon_benchmark(<name> SOURCES … DEPENDS …): a Google Benchmark program
function(typhon_benchmark name)
  if(NOT TYPHON_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE typhon_options ${ARG_DEPENDS} benchmark::benchmark_main Threads::Threads)
endfunction()
