"""Checks of errors by what they carry, not by their sentences."""

from collections.abc import Callable

from imgbench import errors


def about(
  setting: str, *, expected: str | None = None, given: object = None
) -> Callable[[errors.InputError], bool]:
  """Returns a check for `pytest.raises(errors.InputError, check=...)`.

  Args:
    setting: of the error, whole.
    expected: of the error, whole; None: any.
    given: compared as text; None: any.
  """

  def check(error: errors.InputError) -> bool:
    assert error.setting == setting
    assert expected is None or error.expected == expected
    assert given is None or str(error.given) == str(given)
    return True

  return check
