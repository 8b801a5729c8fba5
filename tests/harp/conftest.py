"""What tests of HARP over network namespaces share."""

import pytest

from benchmarks.lightcc.links import Links, LinksUnavailable


@pytest.fixture(name="links")
def fixture_links():
    """Two machines that are network namespaces, joined by a link without a limit."""
    try:
        with Links(machines=2, mbits=None) as links:
            yield links
    except LinksUnavailable as reason:
        pytest.skip(str(reason))
