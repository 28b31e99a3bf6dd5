"""Tests of the mesh: hosts made of namespaces, with the product on them."""

import pytest

pytest.register_assert_rewrite(
    "tests.mesh.talking", "tests.mesh.traffic"
)  # so that pytest explains their failed assertions
