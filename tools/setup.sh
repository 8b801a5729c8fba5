#!/usr/bin/env bash
# tools/setup.sh PIECE...: brings this machine and this checkout to where a make target can start.
#
#   build       Bazel, a C++17 compiler, Python with venv
#   test        googletest, Google Benchmark, iproute2, iptables, DPDK
#   soak        clang 14 with libFuzzer
#   bench       iproute2
#   harp        iproute2, iptables, DPDK
#   venv-run    .venv with requirements/run.lock, this checkout's taco linked into it
#   venv-torch  .venv with requirements/torch.lock too
#   venv-dev    .venv with requirements/dev.lock too
#   venv-bench  .venv with requirements/torch.lock and bench.lock too
#   horovod     what the build of Horovod needs beside .venv: make, Python's headers
#   buildifier  build/npm with buildifier
#
# What is there already is left alone, so a second run touches neither the network nor the disk.
# As root, or where sudo works, missing Debian packages are installed; elsewhere they are named, those
# of all pieces at once.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BUILDIFIER=8.2.1
readonly VENV=.venv

die() {
  printf 'taco: %s\n' "$*" >&2
  exit 1
}

say() {
  printf 'taco: %s\n' "$*" >&2
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# need PACKAGE PROBE...: wants a Debian package unless the probe succeeds.
wanted=()
need() {
  local package=$1
  shift
  [[ " ${wanted[*]} " == *" $package "* ]] || "$@" >/dev/null 2>&1 || wanted+=("$package")
}

has_bazel() {
  has bazel || has bazelisk
}

# PYTHON if the caller names one, else the first that TensorFlow has a wheel for.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

has_venv() {
  [ -x "$VENV/bin/python" ] || "$(find_python)" -c 'import ensurepip, venv'
}

# Whether python3-venv is of no use: the module is there, or the python3 that is there is too old or too new.
needs_no_venv() {
  has_venv || { has python3 && ! find_python; }
}

install_packages() {
  [ ${#wanted[@]} -gt 0 ] || return 0
  local as_root=()
  local line="apt-get install --no-install-recommends ${wanted[*]}"
  has apt-get || die "these Debian packages, or what your system calls them, are missing: ${wanted[*]}"
  if [ "$(id -u)" != 0 ]; then
    # Without a terminal sudo could only hang at its prompt.
    if has sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=(sudo)
    else
      die "packages are missing, and this is neither root nor a user with sudo. Ask for: $line"
    fi
  fi
  say "$line"
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=600 -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq -y \
    install --no-install-recommends "${wanted[@]}" >/dev/null
  wanted=()
}

# needs_PIECE: the Debian packages of a piece.
needs_build() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "TACO builds on x86-64 Linux; this is $(uname -sm)."
  need bazel-bootstrap has_bazel
  need g++ has g++
  need python3 has python3
  need python3-venv needs_no_venv
}

setup_build() {
  find_python >/dev/null ||
    die "TensorFlow 2.21 has wheels for Python 3.10 to 3.13, and none of these is here" \
      "(${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1)). Install one, then: make PYTHON=/path/to/python3.11 ..."
  has_venv || die "$(find_python) lacks the venv module; install the venv package of that Python."
  g++ -march=x86-64-v2 -E -x c++ /dev/null >/dev/null 2>&1 ||
    die "g++ does not know -march=x86-64-v2: GCC 11 or newer is needed, this is $(g++ -dumpversion)."
}

needs_test() {
  need libgtest-dev test -e /usr/include/gtest/gtest.h
  need libgmock-dev test -e /usr/include/gmock/gmock.h
  need libbenchmark-dev test -e /usr/include/benchmark/benchmark.h
  need iproute2 has tc # network namespaces, joined by links of a given speed
  need iptables has iptables # to lose packets between them
  need libdpdk-dev test -e /usr/include/dpdk/rte_ethdev.h
}

needs_bench() {
  need iproute2 has tc # network namespaces, joined by links of a given speed
}

needs_harp() {
  need iproute2 has tc # network namespaces, joined by links of a given speed
  need iptables has iptables # to lose packets between them
  need libdpdk-dev test -e /usr/include/dpdk/rte_ethdev.h
}

needs_soak() {
  need clang-14 has clang-14
  need libclang-rt-14-dev test -e /usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a
}

has_python_headers() {
  local python=$VENV/bin/python
  [ -x "$python" ] || python=$(find_python)
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

needs_horovod() {
  need g++ has g++
  need make has make
  need python3-dev has_python_headers
}

setup_horovod() {
  has_python_headers || die "$("$VENV/bin/python" --version) of $VENV lacks Python.h; install the headers of that Python."
}

# setup_venv PURPOSE: installs requirements/PURPOSE.lock, unless that very file is installed already.
setup_venv() {
  local lock=requirements/$1.lock
  local installed=$VENV/.installed.$1.lock
  cmp -s "$lock" "$installed" && return
  if [ ! -x "$VENV/bin/python" ]; then
    "$(find_python)" -m venv "$VENV"
  fi
  say "installing $lock into $VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$lock"
  cp "$lock" "$installed"
}

# link_checkout: `import taco` and the `taco` command of .venv are those of this checkout.
link_checkout() {
  local site command=$VENV/bin/taco
  [ -x "$command" ] && return
  site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$PWD/python" >"$site/taco_checkout.pth"
  printf '#!%s\nfrom taco.cli import main\n\nraise SystemExit(main())\n' "$PWD/$VENV/bin/python" >"$command"
  chmod +x "$command"
}

has_buildifier() {
  grep -qs "\"version\": \"$BUILDIFIER\"" build/npm/node_modules/@bazel/buildifier/package.json
}

needs_buildifier() {
  has_buildifier || need npm has npm
}

setup_buildifier() {
  has_buildifier && return
  say "installing buildifier $BUILDIFIER into build/npm"
  mkdir -p build/npm
  npm install --silent --no-audit --no-fund --no-save --prefix build/npm "@bazel/buildifier@$BUILDIFIER"
}

for piece; do
  if declare -F "needs_$piece" >/dev/null; then "needs_$piece"; fi
done
install_packages
for piece; do
  case $piece in
    build) setup_build ;;
    test | soak | bench | harp) ;; # packages alone
    venv-run) # one command a line: in a list joined by && a failure inside would not end the script
      setup_venv run
      link_checkout
      ;;
    venv-torch)
      setup_venv run
      setup_venv torch
      link_checkout
      ;;
    venv-dev)
      setup_venv run
      setup_venv dev
      link_checkout
      ;;
    venv-bench)
      setup_venv run
      setup_venv torch
      setup_venv bench
      link_checkout
      ;;
    horovod) setup_horovod ;;
    buildifier) setup_buildifier ;;
    *) die "$0: no piece $piece" ;;
  esac
done
