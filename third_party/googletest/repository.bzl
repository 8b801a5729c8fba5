"""@googletest: the system's googletest and googlemock (Debian: libgtest-dev, libgmock-dev)."""

def _googletest_repository_impl(repository_ctx):
    for header, package in [("gtest/gtest.h", "libgtest-dev"), ("gmock/gmock.h", "libgmock-dev")]:
        if not repository_ctx.path("/usr/include/" + header).exists:
            fail("%s is missing. Remedy: `make test` installs it, or: apt-get install %s" % (header, package))
    repository_ctx.symlink(Label("//third_party/googletest:googletest.BUILD"), "BUILD")

googletest_repository = repository_rule(
    implementation = _googletest_repository_impl,
    configure = True,
    local = True,
)
