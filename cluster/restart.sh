#!/usr/bin/env bash
# Runs a command, and runs it again whenever it fails: after a second at first, with growing pauses if it keeps failing.
#
#   bash cluster/restart.sh COMMAND...     ends when the command ends with 0
set -u

delay=1
until SECONDS=0; "$@"; do
  code=$?
  if [ "$SECONDS" -ge 60 ]; then delay=1; fi
  echo "$(date '+%F %T') ended with $code after $SECONDS s; starts again in $delay s"
  sleep "$delay"
  delay=$((delay < 30 ? 2 * delay : 60))
done
