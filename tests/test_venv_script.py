"""tools/venv.sh with a pretended Python, pip and apt-get: each way a machine can stand before `make`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")

SCRIPT = Path(__file__).parents[1] / "tools" / "venv.sh"
NEEDED = ["sh", "cat", "cp", "mkdir", "rm", "tail", "touch", "tr"]

# Answers the questions the script asks of an interpreter. What the machine lacks is a file in $WORLD.
PYTHON = """#!/bin/sh
version=3.11
echo "python $*" >> "$WORLD/calls"
case "$*" in
    *"version_info < "*) [ ! -e "$WORLD/old" ] ;;
    *"print("*) echo $version ;;
    *"import ensurepip"*) [ ! -e "$WORLD/no-ensurepip" ] ;;
    *"import pip"*) [ -e "$(dirname "$0")/pip" ] ;;
    "-m venv --without-pip"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/pip" ;;
    "-m pip --python"*) [ ! -e "$WORLD/no-pip" ] && touch "$(dirname "$4")/pip" ;;
    "-m pip install"*) [ ! -e "$WORLD/no-network" ] || { echo "no network"; exit 1; } ;;
    *) exit 2 ;;
esac
"""
APT = '#!/bin/sh\necho "apt-get $*" >> "$WORLD/calls"\ncase "$*" in install*) rm "$WORLD/no-ensurepip" ;; esac\n'


class Machine:
    """A directory with a checkout and a PATH of exactly what is put there."""

    def __init__(self, folder):
        self.folder, self.bin, self.world = folder, folder / "bin", folder / "world"
        self.checkout = folder / "checkout"
        for made in (self.bin, self.world, self.checkout / "gpugrad"):
            made.mkdir(parents=True)
        for source in ("pyproject.toml", "setup.py", "gpugrad/version.py"):
            self.change(source)
            os.utime(self.checkout / source, (1, 1))
        for tool in [*NEEDED, *filter(shutil.which, ["dirname", "flock"])]:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.program("python3.11", PYTHON)
        self.program("id", "#!/bin/sh\necho 1000\n")

    def program(self, name, text):
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def change(self, name):
        (self.checkout / name).write_text("changed\n")

    def lacks(self, *things):
        for thing in things:
            (self.world / thing).touch()

    def run(self, extras="test", **environment):
        (self.world / "calls").write_text("")
        world = {"PATH": str(self.bin), "WORLD": str(self.world), **environment}
        return subprocess.run(["sh", str(SCRIPT), extras], cwd=self.checkout, env=world,
                              capture_output=True, text=True, check=False)

    def calls(self, start):
        return [line for line in (self.world / "calls").read_text().splitlines() if line.startswith(start)]

    @property
    def venv(self):
        return self.checkout / ".venv"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def succeeds(done):
    assert done.returncode == 0, done.stderr
    return done


def test_second_run_does_nothing(machine):
    succeeds(machine.run())
    assert machine.calls("python -m pip install") == ["python -m pip install --editable .[test]"]
    assert not (machine.venv / "unfinished").exists()
    assert succeeds(machine.run()).stderr == ""
    assert machine.calls("python -m") == []


def test_only_the_missing_extras_are_installed(machine):
    succeeds(machine.run("test"))
    succeeds(machine.run("test,peers,jit"))
    assert machine.calls("python -m") == ["python -m pip install --editable .[peers,jit]"]


def test_changed_project_file_installs_again(machine):
    succeeds(machine.run())
    machine.change("pyproject.toml")
    os.utime(machine.checkout / "pyproject.toml", (4e9, 4e9))
    succeeds(machine.run())
    assert machine.calls("python -m") == ["python -m pip install --editable .[test]"]


def test_failed_install_shows_its_cause_and_the_next_run_starts_afresh(machine):
    machine.lacks("no-network")
    done = machine.run()
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "run make again" in done.stderr
    (machine.world / "no-network").unlink()
    succeeds(machine.run())
    assert machine.calls("python -m venv") == ["python -m venv .venv"]


def test_interrupted_setup_is_rebuilt(machine):
    machine.venv.mkdir()
    (machine.venv / "unfinished").touch()
    (machine.venv / "rubble").touch()
    succeeds(machine.run())
    assert not (machine.venv / "rubble").exists()


def test_moved_checkout_is_rebuilt(machine):
    succeeds(machine.run())
    machine.checkout = machine.checkout.rename(machine.folder / "elsewhere")
    succeeds(machine.run())
    assert machine.calls("python -m venv") == ["python -m venv .venv"]


def test_working_venv_made_by_hand_is_kept(machine):
    (machine.venv / "bin").mkdir(parents=True)
    shutil.copy(machine.bin / "python3.11", machine.venv / "bin" / "python")
    (machine.venv / "bin" / "pip").touch()
    succeeds(machine.run())
    assert machine.calls("python -m") == ["python -m pip install --editable .[test]"]


def test_another_python_asked_for_rebuilds(machine):
    succeeds(machine.run())
    machine.program("other", PYTHON.replace("version=3.11", "version=3.12"))
    succeeds(machine.run(PYTHON="other"))
    assert machine.calls("python -m venv") == ["python -m venv .venv"]
    succeeds(machine.run(PYTHON="other"))
    assert machine.calls("python -m") == []


def test_newest_python_on_the_path_is_taken(machine):
    for minor in (10, 12, 13):
        machine.program(f"python3.{minor}", PYTHON.replace("version=3.11", f"version=3.{minor}"))
    assert "with python3.13 (3.13)" in succeeds(machine.run()).stderr


def test_debian_without_ensurepip_uses_the_systems_pip(machine):
    machine.lacks("no-ensurepip")
    succeeds(machine.run())
    assert machine.calls("python -m pip --python") == ["python -m pip --python .venv/bin/python install pip"]


def test_bare_debian_as_root_installs_the_package(machine):
    machine.lacks("no-ensurepip", "no-pip")
    machine.program("id", "#!/bin/sh\necho 0\n")
    machine.program("apt-get", APT)
    succeeds(machine.run())
    assert machine.calls("apt-get") == ["apt-get update", "apt-get install -y python3.11-venv"]


def test_bare_debian_as_user_is_told_the_package_in_one_sentence(machine):
    machine.lacks("no-ensurepip", "no-pip")
    machine.program("apt-get", APT)
    done = machine.run()
    assert done.returncode == 1
    assert machine.calls("apt-get") == []
    assert "Install the package python3.11-venv (as root: apt-get install python3.11-venv)" in done.stderr


@pytest.mark.parametrize(("environment", "message"), [
    ({}, "expected Python 3.11 or newer on PATH, found none"),
    ({"PYTHON": "python3.11"}, "expected PYTHON to be Python 3.11 or newer, got PYTHON=python3.11"),
    ({"PYTHON": "nowhere"}, "expected PYTHON to be Python 3.11 or newer, got PYTHON=nowhere"),
])
def test_too_old_or_absent_python_is_named(machine, environment, message):
    machine.lacks("old")
    done = machine.run(**environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert not machine.venv.exists()


def test_wrong_directory_is_an_error(machine):
    machine.checkout = machine.world
    done = machine.run()
    assert done.returncode == 1
    assert "expected to run at the top of the checkout" in done.stderr
