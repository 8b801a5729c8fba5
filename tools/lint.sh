#!/usr/bin/env bash
# tools/lint.sh [--fix]: every check that needs no test, or the formatters' own corrections.
# All checks run, whatever fails, and the last line sums up.
set -uo pipefail
cd "$(dirname "$0")/.."

fix=false
[ "${1:-}" = --fix ] && fix=true

# Tracked files and those that are about to be, by pattern.
sources() {
  git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
    [ -f "$file" ] && echo "$file"
  done
}

mapfile -t cxx < <(sources '*.cc' '*.h' '*.cu' '*.cuh')
mapfile -t starlark < <(sources 'BUILD' '*/BUILD' '*.BUILD' '*.bzl' 'WORKSPACE' '*/WORKSPACE')
mapfile -t shell < <(sources '*.sh' tools/bazel .ci/run)
readonly buildifier=build/npm/node_modules/@bazel/buildifier/buildifier-linux_amd64
readonly bin=.venv/bin
# Bazel 4 has the native rules, and nothing to load in their place.
readonly starlark_rules=-module-docstring,-unnamed-macro,-native-cc-binary,-native-cc-import,-native-cc-library,-native-cc-test,-native-py

failed=()
check() {
  local name=$1
  shift
  local output
  if output=$("$@" 2>&1); then
    echo "ok    $name"
  else
    echo "FAIL  $name"
    printf '%s\n' "$output" | sed 's/^/      /'
    failed+=("$name")
  fi
}

shell_syntax() {
  local file
  for file in "${shell[@]}"; do bash -n "$file" || return 1; done
}

if $fix; then
  "$bin/clang-format" -i "${cxx[@]}"
  "$buildifier" -mode=fix -lint=fix "-warnings=$starlark_rules" "${starlark[@]}"
  "$bin/ruff" check --quiet --fix .
  "$bin/ruff" format --quiet .
  exit
fi

check clang-format "$bin/clang-format" --dry-run --Werror "${cxx[@]}"
check buildifier "$buildifier" -mode=check -lint=warn "-warnings=$starlark_rules" "${starlark[@]}"
check "ruff check" "$bin/ruff" check --quiet .
check "ruff format" "$bin/ruff" format --quiet --check .
check mypy "$bin/mypy"
check "shell syntax" shell_syntax
check "dependency laws" "$bin/python" -m pytest -q -p no:cacheprovider tests/build/laws_test.py

if [ ${#failed[@]} -gt 0 ]; then
  echo "lint failed: ${failed[*]}. \`make format\` corrects formatting."
  exit 1
fi
echo "lint passed"
