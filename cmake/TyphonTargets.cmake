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

# typhon_sees(<target> PUBLIC|PRIVATE|INTERFACE <folder>): the target finds the headers of native/<folder>, as <folder>/x.h
# For each folder there is one that holds nothing but a link to it, and that is what the compiler searches: with native/ itself
# a target would find every layer. A target gets those of its own folder, and those of others with the libraries that it names.
function(typhon_sees target scope folder)
  set(root ${PROJECT_BINARY_DIR}/include/${folder})
  if(NOT EXISTS ${root}/${folder})
    file(MAKE_DIRECTORY ${root})
    file(CREATE_LINK ${PROJECT_SOURCE_DIR}/native/${folder} ${root}/${folder} SYMBOLIC)
  endif()
  target_include_directories(${target} ${scope} ${root})
endfunction()

# typhon_sees_itself(<target> PUBLIC|PRIVATE|INTERFACE): the target finds the headers of the folder whose CMakeLists.txt this is.
function(typhon_sees_itself target scope)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  typhon_sees(${target} ${scope} ${folder})
endfunction()

# typhon_library(<name> SOURCES … DEPENDS …): a static library typhon::<name>, or of headers alone; whoever depends on it sees
# the headers of its folder, and of those that it depends on.
function(typhon_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  # CMake would take static libraries that depend on one another.
  foreach(lower IN LISTS ARG_DEPENDS)
    if(lower MATCHES "^typhon::" AND NOT TARGET ${lower})
      message(FATAL_ERROR "typhon::${name} depends on ${lower}, which is not below it in CMakeLists.txt: a layer stands on those "
        "that are added before it")
    endif()
  endforeach()
  if(ARG_SOURCES)
    add_library(typhon_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(typhon_${name} PRIVATE typhon_options PUBLIC ${ARG_DEPENDS})
    typhon_sees_itself(typhon_${name} PUBLIC)
  else()
    add_library(typhon_${name} INTERFACE)
    target_link_libraries(typhon_${name} INTERFACE ${ARG_DEPENDS})
    typhon_sees_itself(typhon_${name} INTERFACE)
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
  target_link_libraries(${name} PRIVATE typhon_options ${ARG_DEPENDS} typhon::testing GTest::gtest GTest::gtest_main Threads::Threads)
  typhon_sees_itself(${name} PRIVATE)
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
  target_link_libraries(${name} PRIVATE typhon_options ${ARG_DEPENDS} typhon::testing benchmark::benchmark_main Threads::Threads)
  typhon_sees_itself(${name} PRIVATE)
endfunction()
