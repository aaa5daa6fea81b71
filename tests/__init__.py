import pytest

# What an assertion of a helper compared is shown as that of a test is.
pytest.register_assert_rewrite("tests.helpers")
