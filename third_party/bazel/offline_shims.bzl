"""Stand-ins for the repositories that Bazel 4 would download before it builds anything.

Bazel 4's own packages load @rules_cc and @rules_java, and every test wants @remote_coverage_tools.
Ours hand on the native rules. Newer Bazels load symbols that such stand-ins lack: they are left to
download the real ones, or to take Debian's (debian7.rc).
"""

_SHIMS = ["rules_cc", "rules_java", "remote_coverage_tools"]

def offline_shims():
    """Registers the stand-ins where the running Bazel needs them."""

    # Debian's build of Bazel 4.2.3 reports an empty version.
    version = native.bazel_version
    if version and not version.startswith("4."):
        return
    for name in _SHIMS:
        native.local_repository(
            name = name,
            path = "third_party/bazel/offline_shims/" + name,
        )
