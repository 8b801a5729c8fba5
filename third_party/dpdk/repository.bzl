"""@dpdk: the system's DPDK (Debian: libdpdk-dev), or nothing.

HARP does without it: where it is absent libharp-dpdk.so says so when somebody asks for it.
"""

_HEADERS = "/usr/include/dpdk"
_CONFIGURED = "/usr/include/x86_64-linux-gnu/dpdk"  # rte_config.h, on Debian
_NEEDED = ["rte_ethdev.h", "rte_mbuf.h", "rte_eal.h"]

def _dpdk_repository_impl(repository_ctx):
    found = all([repository_ctx.path(_HEADERS + "/" + name).exists for name in _NEEDED])
    if not found:
        repository_ctx.symlink(Label("//third_party/dpdk:absent.BUILD"), "BUILD")
        return
    repository_ctx.symlink(_HEADERS, "include")
    if repository_ctx.path(_CONFIGURED).exists:
        repository_ctx.symlink(_CONFIGURED, "configured")
    repository_ctx.symlink(Label("//third_party/dpdk:dpdk.BUILD"), "BUILD")

dpdk_repository = repository_rule(
    implementation = _dpdk_repository_impl,
    configure = True,
    local = True,
)
