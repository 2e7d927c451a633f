# What the lines of a case may use besides commands. Read by the shell before each line.
# shellcheck shell=sh
busybox=docker.io/library/busybox:1

# await COMMAND PATTERN: runs COMMAND until it prints PATTERN, for 20 seconds at most.
await() {
  await_count=0
  until eval "$1" 2>/dev/null | grep -q -e "$2"; do
    await_count=$((await_count + 1))
    if [ "$await_count" -gt 400 ]; then
      echo "no \"$2\" from: $1" >&2
      return 1
    fi
    sleep 0.05
  done
}

# Writes the daemon's events to the file events from here on. A subscription is not acknowledged, so namespaces are
# made until one of them is told of.
events_start() {
  : >events.raw
  ctr events >events.raw 2>&1 &
  echo $! >events.pid
  events_probe=0
  until grep -q subscribed- events.raw; do
    events_probe=$((events_probe + 1))
    [ "$events_probe" -lt 200 ] || return 1
    ctr namespaces create "subscribed-$events_probe"
    sleep 0.05
  done
}

# events_stop PATTERN: waits for an event that has PATTERN, and prints all since the start without their times.
events_stop() {
  await 'cat events.raw' "$1" || cat events.raw
  kill "$(cat events.pid)"
  grep -v subscribed- events.raw | sed 's/^[^+]*+0000 UTC //'
}

# terminal COMMAND: runs it on a terminal of 40 rows and 100 columns, whose input does not end before it does.
terminal() {
  rm -f terminal.ended
  until [ -e terminal.ended ]; do sleep 0.05; done |
    script -qec "stty rows 40 cols 100; $1; code=\$?; touch terminal.ended; exit \$code" /dev/null
}

# with_input TEXT COMMAND: gives it the text, and the end of its input once it has printed something. ctr forgets an
# input that ends before the task is there.
with_input() {
  : >with_input.out
  {
    echo "$1"
    await 'cat with_input.out' .
  } | eval "$2" >with_input.out
  with_input_code=$?
  cat with_input.out
  return "$with_input_code"
}
