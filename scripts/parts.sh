# shellcheck shell=bash
# Sourced. Runs named parts one after another, goes on after a failing one, and ends with what each came to.
#
#   part "C++ tests" command args…     run it; its output passes through
#   skip "PropEr tests" "not installed"
#   parts_end                          the table, then `N passed, N failed`; fails if any part did

parts_table=()
parts_passed=0
parts_failed=0
parts_skipped=0

if [[ -t 1 ]]; then
  parts_bold=$'\e[1m' parts_red=$'\e[31m' parts_green=$'\e[32m' parts_off=$'\e[0m'
else
  parts_bold='' parts_red='' parts_green='' parts_off=''
fi

part() {
  local name=$1 status=0 start=$EPOCHSECONDS
  shift
  printf '\n%s== %s%s\n' "$parts_bold" "$name" "$parts_off"
  # Not as a condition (`if`, `||`): that would switch `set -e` off inside the part.
  set +e
  (
    set -euo pipefail
    "$@"
  ) </dev/null
  status=$?
  set -e
  local took=$((EPOCHSECONDS - start))
  local line
  if ((status == 0)); then
    parts_passed=$((parts_passed + 1))
    line=$(printf '%-34s %5d s  %spassed%s' "$name" "$took" "$parts_green" "$parts_off")
  else
    parts_failed=$((parts_failed + 1))
    line=$(printf '%-34s %5d s  %sFAILED (%d)%s' "$name" "$took" "$parts_red" "$status" "$parts_off")
  fi
  parts_table+=("$line")
  printf -- '-- %s\n' "$line"
}

skip() {
  parts_skipped=$((parts_skipped + 1))
  parts_table+=("$(printf '%-34s          skipped: %s' "$1" "$2")")
  printf -- '-- %s\n' "${parts_table[-1]}"
}

parts_end() {
  printf '\n'
  printf '%s\n' "${parts_table[@]}"
  if ((parts_skipped > 0)); then
    printf '%d passed, %d failed, %d skipped\n' "$parts_passed" "$parts_failed" "$parts_skipped"
  else
    printf '%d passed, %d failed\n' "$parts_passed" "$parts_failed"
  fi
  ((parts_failed == 0))
}
