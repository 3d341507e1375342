"""The README's examples run as they stand."""
import doctest
from pathlib import Path

import gpugrad

README = Path(gpugrad.__file__).parents[1] / "README.md"


def test_examples_run():
    results = doctest.testfile(str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted >= 9
    assert results.failed == 0


def test_the_newcomers_commands_are_targets_of_the_makefile():
    makefile = (README.parent / "Makefile").read_text()
    for target in ("bench", "test", "test-all"):
        assert f"make {target}" in README.read_text()
        assert f"\n{target}:" in makefile
