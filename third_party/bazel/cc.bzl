"""TACO's C++ rules. BUILD files use these and never the native ones. CONTRIBUTING.md has examples."""

load("@taco_version//:version.bzl", "TACO_VERSION")
load(
    "//third_party/bazel:flags.bzl",
    "BASELINE",
    "CXX17",
    "FUZZ_COPTS",
    "FUZZ_LINKOPTS",
    "SHARED_LIBRARY_LINKOPTS",
    "SIMD_COPTS",
    "SIMD_LEVELS",
    "TENSORFLOW_COPTS",
    "TORCH_COPTS",
    "WARNINGS",
)

# An adapter can say which TACO it belongs to.
_VERSION = ["-DTACO_VERSION=\\\"%s\\\"" % TACO_VERSION]

# What `make test` builds and runs under the sanitizers: C++ tests that need no framework.
_SANITIZED = ["sanitize"]

def taco_cc_library(name, copts = [], **kwargs):
    """A framework-free C++17 library: the rule of the cores.

    Args:
      name: the target's name.
      copts: flags beyond flags.bzl's.
      **kwargs: as cc_library's (srcs, hdrs, deps, textual_hdrs, alwayslink...).
    """
    native.cc_library(
        name = name,
        copts = WARNINGS + CXX17 + BASELINE + FUZZ_COPTS + copts,
        **kwargs
    )

def taco_cc_test(name, deps = [], copts = [], tags = [], size = "small", **kwargs):
    """A googletest of a core.

    `make test` also runs it under the address, undefined-behaviour and thread sanitizers.

    Args:
      name: the target's name; by custom x_test, of x_test.cc, beside x.cc.
      deps: what it tests; googletest, googlemock and main() are added.
      copts: flags beyond flags.bzl's.
      tags: "no_asan" (and ubsan) or "no_tsan" keep it out of a sanitizer's run; say
        why.
      size: as cc_test's.
      **kwargs: as cc_test's.
    """
    native.cc_test(
        name = name,
        size = size,
        copts = WARNINGS + CXX17 + BASELINE + FUZZ_COPTS + copts,
        deps = deps + ["@googletest//:gtest_main"],
        tags = tags + _SANITIZED,
        **kwargs
    )

def taco_cc_binary(name, copts = [], **kwargs):
    """A framework-free C++17 program.

    Args:
      name: the file's name.
      copts: flags beyond flags.bzl's.
      **kwargs: as cc_binary's.
    """
    native.cc_binary(
        name = name,
        copts = WARNINGS + CXX17 + BASELINE + copts,
        **kwargs
    )

def taco_cc_benchmark(name, deps = [], copts = [], **kwargs):
    """A Google Benchmark program. Run it with `bazel run //path:x_benchmark`.

    Args:
      name: the target's name; by custom x_benchmark, of x_benchmark.cc, beside x.cc.
      deps: what it measures; Google Benchmark and main() are added.
      copts: flags beyond flags.bzl's.
      **kwargs: as cc_binary's.
    """
    native.cc_binary(
        name = name,
        testonly = True,
        copts = WARNINGS + CXX17 + BASELINE + copts,
        deps = deps + ["@google_benchmark//:benchmark_main"],
        **kwargs
    )

def taco_cc_fuzz_test(name, corpus = [], deps = [], copts = [], tags = [], seconds = 5, **kwargs):
    """A fuzz test of whatever parses bytes from outside.

    The source defines LLVMFuzzerTestOneInput. `make test` runs it under the sanitizers for some
    seconds with a small driver of our own (fuzz_main.cc), which needs no clang; --config=fuzz runs
    it with clang's libFuzzer, guided by coverage. Both take the same arguments, such as
    --test_arg=-max_total_time=600.

    Args:
      name: the target's name; by custom x_fuzz_test, of x_fuzz_test.cc.
      corpus: files to start from, in a folder of their own: glob(["testdata/x_corpus/*"]).
      deps: what it tests; main() is added.
      copts: flags beyond flags.bzl's.
      tags: as taco_cc_test's.
      seconds: for how long by default.
      **kwargs: as cc_test's.
    """
    folders = {}
    for file in corpus:
        folders["%s/%s" % (native.package_name(), file.rpartition("/")[0])] = True
    native.cc_test(
        name = name,
        size = "small",
        timeout = "eternal",
        copts = WARNINGS + CXX17 + BASELINE + FUZZ_COPTS + copts,
        linkopts = FUZZ_LINKOPTS,
        deps = deps + select({
            "//third_party/bazel:fuzz": [],
            "//conditions:default": ["//third_party/bazel:fuzz_main"],
        }),
        data = corpus,
        args = ["-max_total_time=%d" % seconds] + folders.keys(),
        tags = tags + _SANITIZED + ["fuzz"],
        **kwargs
    )

def taco_multiarch_library(name, srcs, hdrs = [], textual_hdrs = [], deps = [], copts = [], visibility = None, **kwargs):
    """Compiles the same sources once for each level of flags.bzl's SIMD_LEVELS (v2, v3, v4).

    TACO_SIMD_NAMESPACE is defined as the level: a source puts everything into
    `namespace taco::...::TACO_SIMD_NAMESPACE`, and a dispatcher, an ordinary taco_cc_library that
    depends on this one, calls v2::f, v3::f or v4::f by what __builtin_cpu_supports says. Contraction
    into fused multiply-adds is off, so that all levels give the same bits.

    Every other symbol that a level's objects define (inline functions of headers, templates of the
    standard library) is made local to them. Otherwise the linker might keep the AVX-512 copy of an
    inline function and hand it to callers on a machine that has no AVX-512.

    Args:
      name: the target's name.
      srcs: sources, compiled once a level.
      hdrs: headers for the dispatcher: ones that declare all levels.
      textual_hdrs: as cc_library's.
      deps: libraries of headers alone; what they define stays local to each level.
      copts: flags beyond flags.bzl's.
      visibility: as cc_library's.
      **kwargs: as cc_library's.
    """
    objects = []
    for level, march in SIMD_LEVELS.items():
        native.cc_library(
            name = "%s_%s_compiled" % (name, level),
            srcs = srcs + hdrs,
            textual_hdrs = textual_hdrs,
            copts = WARNINGS + CXX17 + SIMD_COPTS + copts + [
                march,
                "-DTACO_SIMD_NAMESPACE=" + level,
            ],
            linkstatic = True,
            tags = ["manual"],
            visibility = ["//visibility:private"],
            deps = deps,
            **kwargs
        )
        objects.append("%s_%s.pic.o" % (name, level))
        native.genrule(
            name = "%s_%s_localized" % (name, level),
            srcs = [":%s_%s_compiled" % (name, level)],
            outs = [objects[-1]],
            cmd = "$(location //third_party/bazel:localize.sh) %s $@ $(SRCS)" % level,
            message = "Keeping the %s level's symbols apart" % level,
            tags = ["manual"],
            tools = ["//third_party/bazel:localize.sh"],
            visibility = ["//visibility:private"],
        )
    native.cc_library(
        name = name,
        srcs = objects,
        hdrs = hdrs,
        textual_hdrs = textual_hdrs,
        deps = deps,
        visibility = visibility,
        **kwargs
    )

def taco_shared_library(name, deps, version_script, linkopts = [], inputs = [], **kwargs):
    """A shared library that exports what its version script names, and has no rpath.

    Args:
      name: the file's name, such as "libnccl-net-harp.so".
      deps: the libraries inside; those that nothing refers to need alwayslink.
      version_script: the linker's version script (x.lds).
      linkopts: more for the linker; $(location) of inputs works.
      inputs: files that linkopts name.
      **kwargs: as cc_binary's.
    """
    native.cc_binary(
        name = name,
        additional_linker_inputs = [version_script] + inputs,
        linkopts = SHARED_LIBRARY_LINKOPTS + [
            "-Wl,--version-script=$(location %s)" % version_script,
            "-Wl,-soname," + name,
        ] + linkopts,
        linkshared = True,
        deps = deps,
        **kwargs
    )

def taco_tf_cc_library(name, copts = [], deps = [], **kwargs):
    """An adapter between a core and TensorFlow: registrations of ops and kernels.

    It is linked whole (registrations are static objects that nobody names). TensorFlow's own absl,
    Eigen and tsl are on the include path, and no others may be linked. TACO_VERSION and
    TACO_TENSORFLOW_VERSION are defined as strings.

    Args:
      name: the target's name.
      copts: flags beyond flags.bzl's.
      deps: cores and other adapters; TensorFlow's headers are added.
      **kwargs: as cc_library's.
    """
    native.cc_library(
        name = name,
        alwayslink = True,
        copts = WARNINGS + TENSORFLOW_COPTS + BASELINE + _VERSION + copts,
        deps = deps + ["@tensorflow//:headers"],
        **kwargs
    )

def taco_tf_op_library(name, deps, needs_tensorflow_cc = False, **kwargs):
    """A library for tf.load_op_library, from taco_tf_cc_library targets.

    It refers to the TensorFlow of the process that loads it by name alone, and exports no symbol.

    Args:
      name: the file's name, such as "libtaco_tf.so".
      deps: the adapters inside.
      needs_tensorflow_cc: refer to libtensorflow_cc.so.2 too (XLA's compiler, grappler).
      **kwargs: as taco_shared_library's.
    """
    libraries = ["@tensorflow//:libtensorflow_framework.so.2"]
    if needs_tensorflow_cc:
        libraries.append("@tensorflow//:libtensorflow_cc.so.2")
    taco_shared_library(
        name = name,
        inputs = libraries,
        linkopts = ["$(location %s)" % library for library in libraries],
        version_script = "//third_party/bazel:export_nothing.lds",
        deps = deps,
        **kwargs
    )

def taco_torch_cc_library(name, copts = [], deps = [], **kwargs):
    """An adapter between a core and PyTorch: TORCH_LIBRARY registrations. Linked whole.

    TACO_VERSION is defined as a string.

    Args:
      name: the target's name.
      copts: flags beyond flags.bzl's.
      deps: cores and other adapters; PyTorch's headers are added.
      **kwargs: as cc_library's.
    """
    native.cc_library(
        name = name,
        alwayslink = True,
        copts = WARNINGS + TORCH_COPTS + BASELINE + _VERSION + copts,
        deps = deps + ["@torch//:headers"],
        **kwargs
    )

def taco_torch_library(name, deps, **kwargs):
    """A library for torch.ops.load_library, from taco_torch_cc_library targets.

    Args:
      name: the file's name, such as "libtaco_torch.so".
      deps: the adapters inside.
      **kwargs: as taco_shared_library's.
    """
    libraries = ["@torch//:lib/lib%s.so" % stem for stem in ["c10", "torch", "torch_cpu"]]
    taco_shared_library(
        name = name,
        inputs = libraries,
        linkopts = ["$(location %s)" % library for library in libraries],
        version_script = "//third_party/bazel:export_nothing.lds",
        deps = deps,
        **kwargs
    )
