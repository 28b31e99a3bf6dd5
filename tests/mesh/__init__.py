"""The mesh: real hosts, as far as their kernel knows, with the product on them."""

import pytest

pytest.register_assert_rewrite("tests.mesh.talking", "tests.mesh.traffic")  # so that their failures say as much
