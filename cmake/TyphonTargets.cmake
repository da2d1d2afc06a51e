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
if(TYPHON_TESTS)
  find_package(GTest REQUIRED)
endif()
if(TYPHON_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

add_library(typhon_options INTERFACE)
target_compile_options(typhon_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
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

# The target of all tests, for builds that want nothing else
add_custom_target(typhon_tests)

# typhon_test(<name> SOURCES … DEPENDS … [SHARDS <n>]): a GoogleTest program, registered with ctest
# SHARDS: its tests are dealt out to so many runs, for a program that would keep one core busy long after the others.
function(typhon_test name)
  if(NOT TYPHON_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "SHARDS" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE typhon_options ${ARG_DEPENDS} GTest::gtest GTest::gtest_main Threads::Threads)
  target_compile_definitions(${name} PRIVATE TYPHON_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_dependencies(typhon_tests ${name})
  if(NOT ARG_SHARDS)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 300)
    return()
  endif()
  math(EXPR last "${ARG_SHARDS} - 1")
  foreach(shard RANGE ${last})
    add_test(NAME ${name}_${shard} COMMAND ${name})
    set_tests_properties(${name}_${shard} PROPERTIES
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${shard}" TIMEOUT 300)
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
