"""@google_benchmark: the system's Google Benchmark (Debian: libbenchmark-dev)."""

def _benchmark_repository_impl(repository_ctx):
    if not repository_ctx.path("/usr/include/benchmark/benchmark.h").exists:
        fail("benchmark/benchmark.h is missing. Remedy: `make test` installs it, or: " +
             "apt-get install libbenchmark-dev")
    repository_ctx.symlink(Label("//third_party/benchmark:benchmark.BUILD"), "BUILD")

benchmark_repository = repository_rule(
    implementation = _benchmark_repository_impl,
    configure = True,
    local = True,
)
