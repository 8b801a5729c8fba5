"""Compiler and linker flags: all of them, here."""

# One wheel serves every x86-64 machine of the last decade: code that profits from more is compiled
# by taco_multiarch_library and chosen at run time. --config=native trades that for this machine's
# own instruction set.
BASELINE = select({
    "//third_party/bazel:native": ["-march=native"],
    "//conditions:default": ["-march=x86-64-v2"],
})

# The instruction sets that taco_multiarch_library compiles for: name of the namespace -> flag.
# v3 is AVX2 + FMA + F16C + BMI, v4 adds AVX-512 F, BW, CD, DQ and VL.
SIMD_LEVELS = {
    "v2": "-march=x86-64-v2",
    "v3": "-march=x86-64-v3",
    "v4": "-march=x86-64-v4",
}

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
]

CXX17 = ["-std=c++17"]

# Results must not depend on the instruction set that run-time dispatch picks: contraction into
# fused multiply-adds would change their last bits.
SIMD_COPTS = [
    "-O3",
    "-ffp-contract=off",
]

# What tf.sysconfig.get_compile_flags() says for TensorFlow 2.21, less the include path.
# tests/build/flags_test.py compares.
TENSORFLOW_COPTS = CXX17 + [
    "-D_GLIBCXX_USE_CXX11_ABI=1",
    "-DEIGEN_MAX_ALIGN_BYTES=64",
]

# PyTorch 2.13's headers want C++20.
TORCH_COPTS = ["-std=c++20"]

# A shared library must find every symbol at link time, not when a user loads it.
SHARED_LIBRARY_LINKOPTS = [
    "-Wl,-z,defs",
    "-Wl,--as-needed",
]

# libFuzzer's instrumentation; everything but the fuzz test's own main.
FUZZ_COPTS = select({
    "//third_party/bazel:fuzz": ["-fsanitize=fuzzer-no-link"],
    "//conditions:default": [],
})

FUZZ_LINKOPTS = select({
    "//third_party/bazel:fuzz": ["-fsanitize=fuzzer"],
    "//conditions:default": [],
})
