#!/bin/sh
# localize.sh LEVEL OUT ARCHIVE...: links the archive's objects into one, in which only symbols with
# the namespace LEVEL in their mangled name (as in _ZN4taco2v31fEv) stay global.
set -eu
level=$1 out=$2
shift 2
for file; do
  case $file in
    *.a) archive=$file ;;
  esac
done
# Groups of inline functions become plain sections, so that no other object's copy replaces them.
ld -r --force-group-allocation --whole-archive "$archive" -o "$out"
objcopy --wildcard --keep-global-symbol="*${#level}${level}*" "$out"
