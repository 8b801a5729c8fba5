"""Every outside dependency, one rule each. A rule runs only when a target needs its repository."""

load("//third_party/bazel:version.bzl", "version_repository")
load("//third_party/benchmark:repository.bzl", "benchmark_repository")
load("//third_party/dpdk:repository.bzl", "dpdk_repository")
load("//third_party/googletest:repository.bzl", "googletest_repository")
load("//third_party/nccl:repository.bzl", "nccl_repository")
load("//third_party/pybind11:repository.bzl", "pybind11_repository")
load("//third_party/python:repository.bzl", "python_repository")
load("//third_party/tensorflow:repository.bzl", "tensorflow_repository")
load("//third_party/torch:repository.bzl", "torch_repository")

def taco_repositories():
    """Registers all of them, under the names that BUILD files use."""
    benchmark_repository(name = "google_benchmark")
    dpdk_repository(name = "dpdk")
    googletest_repository(name = "googletest")
    nccl_repository(name = "nccl")
    pybind11_repository(name = "pybind11")
    python_repository(name = "local_config_python")
    version_repository(name = "taco_version")
    tensorflow_repository(name = "tensorflow")
    torch_repository(name = "torch")
