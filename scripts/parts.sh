# shellcheck shell=bash
# Sourced. Runs named parts one after another, goes on after a failing one, and ends with what each came to.
#
#   part "C++ tests" command args…     run it; its output passes through, and is kept in _build/logs
#   skip "PropEr tests" "not installed"
#   parts_end                          what failed, the table, then `N passed, N failed`; fails if any part did

parts_table=()
parts_failed_logs=()
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
  # A part's name may hold a whole command.
  local log=${name//[^A-Za-z0-9.]/-}
  log=_build/logs/${log:0:100}.log
  shift
  mkdir -p _build/logs
  printf '\n%s== %s%s\n' "$parts_bold" "$name" "$parts_off"
  # Not as a condition (`if`, `||`): that would switch `set -e` off inside the part.
  set +e
  (
    set -euo pipefail
    "$@"
  ) </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e
  local took=$((EPOCHSECONDS - start))
  local line
  if ((status == 0)); then
    parts_passed=$((parts_passed + 1))
    line=$(printf '%-34s %5d s  %spassed%s' "$name" "$took" "$parts_green" "$parts_off")
  else
    parts_failed=$((parts_failed + 1))
    parts_failed_logs+=("$log")
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

# A log may be long, and whoever looks at it may have its beginning and its end alone: so the end says which tests failed.
parts_headline='== What failed'

# What a log says of its failures: the parts' own summary where it holds one; the reports of ExUnit without what was logged
# meanwhile, the lines of pytest, gtest and ctest; else its last lines.
parts_failures() {
  awk -v headline="$parts_headline" '
    index($0, headline) { own = 1; found = ""; next }
    own && /^-- end of what failed/ { own = 0; whole = 1 }
    own { found = found $0 "\n" }
    own || whole { next }
    /^ +[0-9]+\) (test|doctest|property) / { report = 1; lines = 0 }
    /^ +The following output was logged/ || /^Finished in / { report = 0 }
    report && ++lines > 30 { report = 0 }
    report && !/^[.*]+$/ { found = found $0 "\n"; next }
    (/^(FAILED|ERROR) / || /^\[  FAILED  \]/ || /\*\*\*(Failed|Timeout|Exception)/) { found = found $0 "\n" }
    { last[NR % 40] = $0 }
    END {
      if (found == "") for (i = NR + 1; i <= NR + 40; i++) if (i % 40 in last) found = found last[i % 40] "\n"
      count = split(found, lines_of, "\n")
      for (i = 1; i < count && i <= 200; i++) print lines_of[i]
      if (count > 200) print "(more in the log)"
    }' "$1"
}

parts_end() {
  local log
  if ((parts_failed > 0)); then
    printf '\n%s%s%s\n' "$parts_bold" "$parts_headline" "$parts_off"
    for log in "${parts_failed_logs[@]}"; do
      printf '%s:\n' "$log"
      parts_failures "$log"
    done
    printf -- '-- end of what failed\n'
  fi
  printf '\n'
  printf '%s\n' "${parts_table[@]}"
  if ((parts_skipped > 0)); then
    printf '%d passed, %d failed, %d skipped\n' "$parts_passed" "$parts_failed" "$parts_skipped"
  else
    printf '%d passed, %d failed\n' "$parts_passed" "$parts_failed"
  fi
  ((parts_failed == 0))
}
