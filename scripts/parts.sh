# shellcheck shell=bash
# Sourced. Runs named parts, goes on after a failing one, and ends with what each came to.
#
#   part "C++ tests" command args…     run it; its output passes through, and is kept in _build/logs
#   skip "PropEr tests" "not installed"
#   parts_end                          what failed, the table, then `N passed, N failed`; fails if any part did
#
# Side by side:
#
#   later "C++ tests" [--after "build"]… command args…    put it down for…
#   lanes 2                            … running all that was put down, two at a time, in this order; one that comes after
#                                      others waits until they have ended, whatever they came to. The output of each is
#                                      printed whole when it ends.

parts_table=()
parts_took=()
parts_failed_logs=()
parts_passed=0
parts_failed=0
parts_skipped=0
parts_later=()
parts_later_after=()
parts_later_commands=()

if [[ -t 1 ]]; then
  parts_bold=$'\e[1m' parts_red=$'\e[31m' parts_green=$'\e[32m' parts_off=$'\e[0m'
else
  parts_bold='' parts_red='' parts_green='' parts_off=''
fi

# A part's name may hold a whole command.
parts_log() {
  local log=${1//[^A-Za-z0-9.]/-}
  echo "_build/logs/${log:0:100}.log"
}

parts_headline_of() { printf '\n%s== %s%s\n' "$parts_bold" "$1" "$parts_off"; }

# parts_record <name> <exit status> <seconds> <log>
parts_record() {
  local name=$1 status=$2 took=$3 log=$4 line
  if ((status == 0)); then
    parts_passed=$((parts_passed + 1))
    line=$(printf '%-34s %5d s  %spassed%s' "$name" "$took" "$parts_green" "$parts_off")
  else
    parts_failed=$((parts_failed + 1))
    parts_failed_logs+=("$log")
    line=$(printf '%-34s %5d s  %sFAILED (%d)%s' "$name" "$took" "$parts_red" "$status" "$parts_off")
  fi
  parts_table+=("$line")
  parts_took+=("$(printf '%5d s  %s' "$took" "$name")")
  printf -- '-- %s\n' "$line"
}

part() {
  local name=$1 status=0 start=$EPOCHSECONDS log
  log=$(parts_log "$name")
  shift
  mkdir -p _build/logs
  parts_headline_of "$name"
  # Not as a condition (`if`, `||`): that would switch `set -e` off inside the part.
  set +e
  (
    set -euo pipefail
    "$@"
  ) </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  set -e
  parts_record "$name" "$status" $((EPOCHSECONDS - start)) "$log"
}

skip() {
  parts_skipped=$((parts_skipped + 1))
  parts_table+=("$(printf '%-34s          skipped: %s' "$1" "$2")")
  printf -- '-- %s\n' "${parts_table[-1]}"
}

later() {
  local name=$1 before known after=''
  shift
  while [[ $1 == --after ]]; do
    known=''
    for before in "${!parts_later[@]}"; do
      if [[ ${parts_later[before]} == "$2" ]]; then known=$before; fi
    done
    if [[ -z $known ]]; then
      echo "parts.sh: '$name' comes after '$2', which has not been put down before it" >&2
      exit 2
    fi
    after+="$known "
    shift 2
  done
  parts_later+=("$name")
  parts_later_after+=("$after")
  parts_later_commands+=("$(printf '%q ' "$@")")
}

# Each has a process group of its own, so that all it has started ends with it when somebody stops the run.
lanes_stop() {
  local pid
  for pid in "${!parts_running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
}

# Not the name of a part's log: what runs in a lane may have a part of the same name.
lanes_log() { parts_log "lane ${parts_later[$1]}"; }

lanes_start() {
  local log
  log=$(lanes_log "$1")
  set -m
  (
    set -euo pipefail
    eval "${parts_later_commands[$1]}"
  ) </dev/null >"$log" 2>&1 &
  set +m
  parts_running[$!]=$1
  parts_state[$1]=$EPOCHSECONDS
  printf '.. %s has begun\n' "${parts_later[$1]}"
}

lanes_wait() {
  local pid='' index log status=0
  wait -n -p pid "${!parts_running[@]}" || status=$?
  index=${parts_running[$pid]}
  unset "parts_running[$pid]"
  log=$(lanes_log "$index")
  parts_headline_of "${parts_later[index]}"
  cat "$log"
  parts_record "${parts_later[index]}" "$status" $((EPOCHSECONDS - parts_state[index])) "$log"
  parts_state[index]=ended
}

lanes() {
  local count=$1 index before
  declare -gA parts_running=()
  declare -ga parts_state=()
  mkdir -p _build/logs
  trap lanes_stop EXIT
  trap 'exit 130' INT TERM HUP
  while :; do
    for index in "${!parts_later[@]}"; do
      ((${#parts_running[@]} < count)) || break
      [[ -z ${parts_state[index]:-} ]] || continue
      for before in ${parts_later_after[index]}; do
        [[ ${parts_state[before]:-} == ended ]] || continue 2
      done
      lanes_start "$index"
    done
    ((${#parts_running[@]} > 0)) || break
    lanes_wait
  done
  trap - EXIT INT TERM HUP
  parts_later=() parts_later_after=() parts_later_commands=()
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

# The names alone, for whoever sees no more than the last lines.
parts_names() {
  grep -hoE '^( +[0-9]+\) (test|doctest|property) .*|(FAILED|ERROR) .*|\[  FAILED  \] .*|.*\*\*\*(Failed|Timeout|Exception).*)' "$1" |
    sed -E 's/^ +[0-9]+\) //' | sort -u | head -n 20 || true
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
  if ((parts_failed > 0)); then
    printf '\n'
    for log in "${parts_failed_logs[@]}"; do parts_names "$log"; done
  fi
  if ((${#parts_took[@]} > 5)); then
    printf '\nThe slowest:\n'
    printf '%s\n' "${parts_took[@]}" | sort -k1,1nr -s | head -n 5
    printf '\n'
  fi
  if ((parts_skipped > 0)); then
    printf '%d passed, %d failed, %d skipped\n' "$parts_passed" "$parts_failed" "$parts_skipped"
  else
    printf '%d passed, %d failed\n' "$parts_passed" "$parts_failed"
  fi
  ((parts_failed == 0))
}
