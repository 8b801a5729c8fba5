"""@taco_version: TACO's version for BUILD files, read from python/taco/_version.py, its one place."""

def _version_repository_impl(repository_ctx):
    source = repository_ctx.path(Label("//python/taco:_version.py"))
    for line in repository_ctx.read(source).split("\n"):
        if line.startswith("__version__ = "):
            repository_ctx.file("version.bzl", "TACO_VERSION = %s\n" % line[len("__version__ = "):])
            repository_ctx.file("BUILD")
            return
    fail("%s has no line `__version__ = \"...\"`." % source)

version_repository = repository_rule(
    implementation = _version_repository_impl,
    local = True,
)
