#!/bin/sh
# venv.sh EXTRAS: .venv holds gpugrad, editable, with these extras (comma-separated). Does nothing where it already does.
#
# PYTHON in the environment names the interpreter; without it the newest suitable one on PATH is taken.
# While .venv is being changed it contains `unfinished`: a run that failed or was interrupted is started afresh by the next.
set -eu

venv=.venv
extras=$1
log=$venv/install.log

say() { printf 'gpugrad: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON-}" ]; then
        suitable "$PYTHON" || fail "expected PYTHON to be Python 3.11 or newer, got PYTHON=$PYTHON. Name another, or leave it out."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
        if suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "expected Python 3.11 or newer on PATH, found none. Install it (Debian 12: apt-get install python3), or name it: make PYTHON=/path/to/python3."
}

# A copied or moved checkout still has the old paths in its scripts: `checkout` tells.
sound() {
    [ ! -e "$venv/unfinished" ] &&
        "$venv/bin/python" -c 'import pip' 2>/dev/null && suitable "$venv/bin/python" &&
        { [ ! -e "$venv/checkout" ] || [ "$(cat "$venv/checkout")" = "$(pwd -P)" ]; } &&
        { [ -z "${PYTHON-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]; }
}

# Debian keeps ensurepip in a package of its own, so there `python3 -m venv` fails on a bare machine.
make_venv() {
    python=$(find_python)
    say "making $venv with $python ($(version_of "$python"))"
    rm -rf "$venv"
    mkdir "$venv"
    touch "$venv/unfinished"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if "$python" -m venv --without-pip "$venv" >>"$log" 2>&1 &&
            "$python" -m pip --python "$venv/bin/python" install pip >>"$log" 2>&1; then
            return
        fi
        package=python$(version_of "$python")-venv
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
            fail "$python cannot make virtual environments here. Install the package $package (as root: apt-get install $package), then run make again."
        say "installing $package"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$package"; } >>"$log" 2>&1 ||
            { tail -n 20 "$log" >&2; fail "apt-get could not install $package. Install it by hand, then run make again."; }
    fi
    "$python" -m venv "$venv" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$python -m venv failed, see above."; }
}

# An extra counts as installed until a file that says what it contains has changed.
missing_extras() {
    for extra in $(echo "$extras" | tr ',' ' '); do
        for source in pyproject.toml setup.py gpugrad/version.py; do
            [ "$venv/has-$extra" -nt $source ] || { echo "$extra"; break; }
        done
    done
}

[ -f pyproject.toml ] || fail "expected to run at the top of the checkout, got $PWD. cd there first."
if command -v flock >/dev/null; then # two makes at once: the second waits, rather than taking the first's work for a wreck
    exec 9<pyproject.toml
    flock 9
fi

sound || make_venv
wanted=$(missing_extras)
if [ -n "$wanted" ]; then
    touch "$venv/unfinished"
    say "installing gpugrad[$(echo $wanted | tr ' ' ',')] into $venv (log: $log)"
    "$venv/bin/python" -m pip install --editable ".[$(echo $wanted | tr ' ' ',')]" >>"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; fail "pip could not install it, see above. Check the network or the proxy, then run make again."; }
    pwd -P >"$venv/checkout"
    for extra in $wanted; do touch "$venv/has-$extra"; done
    rm "$venv/unfinished"
fi
