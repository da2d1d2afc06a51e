# shellcheck shell=bash
# Sourced. What is worth keeping from one checkout to the next lies outside of all of them, in $typhon_cache: virtualenvs,
# dialyzer's table of types, the files that clang-tidy has nothing to say about, and compiled objects (by ccache, where that is
# installed). What is there is named after all that it was made from, and is looked at before it is used: what is damaged is made
# again. Whoever makes something locks it, so that several runs may go on at once. All of it may be deleted at any time.
#
#   TYPHON_CACHE   where (default: typhon in XDG's folder for caches, ~/.cache)
#
#   locked NAME command args…     run it while no other run does so under this name

typhon_cache=${TYPHON_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/typhon}
if ! { mkdir -p "$typhon_cache" && [[ -w $typhon_cache ]]; } 2>/dev/null; then
  typhon_cache=$PWD/_build/cache
  mkdir -p "$typhon_cache"
fi
export TYPHON_CACHE=$typhon_cache

# CMake reads these where it configures a build for the first time.
if [[ -z ${CMAKE_CXX_COMPILER_LAUNCHER:-} ]] && command -v ccache >/dev/null && mkdir -p "$typhon_cache/ccache" 2>/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
  # Another checkout's objects serve, too.
  export CCACHE_DIR=${CCACHE_DIR:-$typhon_cache/ccache} CCACHE_BASEDIR=${CCACHE_BASEDIR:-$PWD} CCACHE_NOHASHDIR=1
  export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-2G}
fi

locked() {
  local lock=$typhon_cache/$1.lock
  shift
  if ! command -v flock >/dev/null; then
    "$@"
    return
  fi
  # A subshell, which takes the lock along; what it starts and leaves running does not get it.
  (
    exec 9>"$lock"
    flock 9
    "$@" 9>&-
  )
}
