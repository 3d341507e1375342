"""What the README says: its examples run as they stand, and what it names is there."""
import doctest
import functools
import re
import shlex
import tomllib
from pathlib import Path

import gpugrad
from gpugrad.cli import parse

README = Path(gpugrad.__file__).parents[1] / "README.md"
TEXT = README.read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: Commands in blocks, without their comments, and the code within lines.
CODE = [line.split("  #")[0].strip() for language, block in FENCE.findall(TEXT) if not language for line in block.splitlines()]
CODE += re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXT))


def commands(program: str) -> list[list[str]]:
    """The arguments of each command of that program."""
    return [shlex.split(line)[1:] for line in CODE if line.startswith(program + " ")]


def test_examples_run():
    results = doctest.testfile(str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted >= 18
    assert results.failed == 0


def test_commands_of_gpugrad_are_understood():
    found = commands("gpugrad")
    assert {words[0] for words in found} >= {"bench", "info", "kernels"}
    for words in found:
        assert callable(parse(words).run)


def test_commands_of_make_are_targets():
    makefile = (README.parent / "Makefile").read_text()
    found = {words[0] for words in commands("make")}
    assert found >= {"bench", "gpu", "test"}
    for target in found | {"test-all"}:
        assert f"\n{target}:" in makefile
        assert f"make {target}" in TEXT


def test_commands_of_pytest_name_folders_and_options(pytestconfig):
    found = commands("pytest")
    assert found
    for words in found:
        assert (README.parent / words[-1]).is_dir()
        assert all(pytestconfig.getoption(word.strip("-"), default=0) != 0 for word in words if word.startswith("--"))


def test_options_of_bench_are_named_as_they_are():
    options = vars(parse(["bench"]))
    named = {word for word in re.findall(r"`--([a-z]+)`|[ ;,]--([a-z]+)(?=[ ,])", TEXT) for word in word if word}
    assert named >= {"against", "budget", "json", "plot", "readme"}
    assert named <= {*options, "compiled"}


def test_every_extra_is_named_and_every_name_is_an_extra():
    extras = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    install = TEXT[TEXT.index("## Install"):TEXT.index("## GPU")]
    assert [extra for extra in extras if not re.search(rf"[`\[ ]{extra}[`\] ]", install)] == []


def test_names_and_files_are_there():
    names = set(re.findall(r"\bgg((?:\.\w+)+)", TEXT))
    assert len(names) >= 20
    for name in names:
        functools.reduce(getattr, name[1:].split("."), gpugrad)
    for path in re.findall(r"`((?:gpugrad|kernels|bench|tests)/[\w/.]*)`", TEXT):
        assert (README.parent / path).exists() or Path(path).stem == "x", path
