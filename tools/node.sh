#!/bin/sh
# Runs a file of the project under its Node: `sh tools/node.sh test/run.ts unit`.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$root" || exit 1
. bin/launch.sh
launch "$@"
