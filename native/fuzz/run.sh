#!/bin/sh
# Runs fuzzers: native/fuzz/run.sh SECONDS [target…]
#
# Each target that is built (or each that is named) runs for SECONDS, one after the other. Prints one line a target,
# "target: N executions", and ends with status 1 when one of them crashed, leaked, ran out of memory or hung. With 0 SECONDS it runs
# over the seeds once.
#
#   TYPHON_FUZZ_BUILD      the build tree          (default _build/native/fuzz)
#   TYPHON_FUZZ_ARTIFACTS  inputs that crash, logs (default _build/fuzz/artifacts)
#   TYPHON_FUZZ_CORPUS     what the fuzzers find, kept between runs (default _build/fuzz/corpus); the seeds in
#                          native/fuzz/corpus are only read
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
build=${TYPHON_FUZZ_BUILD:-$root/_build/native/fuzz}
artifacts=${TYPHON_FUZZ_ARTIFACTS:-$root/_build/fuzz/artifacts}
corpus=${TYPHON_FUZZ_CORPUS:-$root/_build/fuzz/corpus}

case ${1:-} in
  '' | *[!0-9]*)
    echo "usage: $0 SECONDS [target…]" >&2
    exit 2
    ;;
esac
seconds=$1
shift

find_target() {
  find "$build" -type f -name "$1" -perm -u+x 2>/dev/null | sort | head -n 1
}

if [ $# -eq 0 ]; then
  # Names of programs of ours: no spaces in them.
  # shellcheck disable=SC2046
  set -- $(find "$build" -type f -name 'fuzz_*' -perm -u+x -exec basename {} \; 2>/dev/null | sort -u)
fi
if [ $# -eq 0 ]; then
  echo "no fuzzers in $build: configure with -DTYPHON_FUZZERS=ON and Clang, and build" >&2
  exit 2
fi

failed=0
for target in "$@"; do
  program=$(find_target "$target")
  if [ -z "$program" ]; then
    echo "$target: not built in $build" >&2
    failed=1
    continue
  fi
  mkdir -p "$artifacts/$target" "$corpus/$target"
  log=$artifacts/$target/log
  set --
  [ -d "$here/corpus/$target" ] && set -- "$here/corpus/$target"
  case $target in fuzz_etf_*) set -- "$@" "-dict=$here/etf.dict" ;; esac
  if [ "$seconds" -eq 0 ]; then
    set -- "$@" -runs=0
  else
    set -- "$corpus/$target" "$@" -max_total_time="$seconds"
  fi
  "$program" "$@" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$artifacts/$target/" >"$log" 2>&1
  status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  echo "$target: ${executions:-0} executions"
  if [ $status -ne 0 ]; then
    failed=1
    echo "$target: FAILED (status $status), see $artifacts/$target/" >&2
    grep -E 'ERROR|SUMMARY|does not hold|Test unit written' "$log" >&2
  fi
done
exit $failed
