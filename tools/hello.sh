#!/bin/sh
# One container from nothing: `sudo npm run hello [-- IMAGE]`.
set -eu
root=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$root"
HELLO_STARTED_MS=$(date +%s%3N)
# The registry is asked for the way ctr will ask: through the proxies of the environment, trusting what the system does.
NODE_USE_ENV_PROXY=1
NODE_USE_SYSTEM_CA=1
export HELLO_STARTED_MS NODE_USE_ENV_PROXY NODE_USE_SYSTEM_CA
sh tools/setup.sh --hello
. bin/launch.sh
launch tools/hello.ts "$@"
