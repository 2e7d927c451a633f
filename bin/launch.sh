# Sourced by the commands beside it, with root set to the project's folder: finds Node and becomes it.
# shellcheck shell=sh

# The lowest major version the sources run on unbuilt.
node_floor=24

# Prints the Node to run under: the one `npm run setup` installed, else the machine's own when it is new enough.
# PATH may be minimal, so the usual places are tried as well.
find_node() {
  case "$(uname -m)" in
    x86_64) set -- x64 ;;
    aarch64) set -- arm64 ;;
    *) set -- none ;;
  esac
  set -- "$root/tools/node/node_modules/node-linux-$1/bin/node"
  if [ -x "$1" ]; then
    printf '%s\n' "$1"
    return 0
  fi
  for dir in $(printf '%s' "$PATH" | tr ':' ' ') /usr/local/bin /usr/bin; do
    [ -x "$dir/node" ] || continue
    major=$("$dir/node" -p 'process.versions.node.split(".")[0]' 2>/dev/null) || continue
    if [ "$major" -ge "$node_floor" ]; then
      printf '%s\n' "$dir/node"
      return 0
    fi
  done
  return 1
}

# Prints the file to run for src/cmd/NAME/main.ts: that of the bundle `npm run setup` makes, which starts in half the
# time, unless a source is newer.
bundled() {
  bundle=$root/.cache/bundle/current
  [ -f "$bundle/$1.js" ] || return 1
  changed=$(cd "$root" && find src tools/bundle.ts package-lock.json -newer "$bundle/" -print -quit) || return 1
  [ -z "$changed" ] || return 1
  printf '%s\n' "$bundle/$1.js"
}

# launch_command NAME [ARGS]: becomes Node running the command of src/cmd/NAME.
launch_command() {
  command_name=$1
  shift
  if file=$(bundled "$command_name"); then
    launch "$file" "$@"
  else
    launch "$root/src/cmd/$command_name/main.ts" "$@"
  fi
}

# launch FILE [ARGS]: becomes Node running FILE.
launch() {
  if ! node=$(find_node); then
    echo "${0##*/}: no Node.js $node_floor or newer on this machine: run \`npm run setup\` in $root" >&2
    exit 1
  fi
  # Node raises its soft limit to the hard one, and containers would inherit that. Where a process that already runs
  # under Node is the caller, it passes on the limit it was started with.
  CONTAINERD_NOFILE_SOFT=${CONTAINERD_NOFILE_SOFT:-$(ulimit -S -n)}
  export CONTAINERD_NOFILE_SOFT
  # Stripping types and compiling is half of the time until a command is at work. The cache stands beside the sources,
  # never in the system's temporary folder: what is in it runs as the daemon. Where it cannot be written there is none.
  NODE_COMPILE_CACHE=$root/.cache/compile
  export NODE_COMPILE_CACHE
  # To find Node the usual places were added to PATH; what runs under it gets the one of the caller, if there was one.
  PATH=${callers_path:-$PATH}
  export PATH
  file=$1
  shift
  exec "$node" --disable-warning=ExperimentalWarning "$file" "$@"
}
