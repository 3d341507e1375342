"""Mangled names as the source has them: `_ZN1a4copyIfEEvPT_` is a::copy."""

import re


def qualified(name):
    """A name with its namespaces and without template arguments; of a variable in a function, the variable's own.

    `name` itself where it is not mangled.
    """
    local = name.startswith("_ZZ") and [m for m in re.finditer(r"E(\d+)", name)
                                        if re.fullmatch(r"(_\d+|_\d+_)?(_\$_\d+)?", name[m.end() + int(m[1]):])]
    if local:
        return identifier(name, local[0].start(1))[0]
    if not name.startswith("_Z"):
        return name
    at, nested, parts = 2 + name.startswith("_ZN"), name.startswith("_ZN"), []
    while at < len(name):
        if name[at].isdigit():
            part, at = identifier(name, at)
            parts += [part] if not part.startswith(("_GLOBAL__N", "_INTERNAL")) else []
        elif name[at] in "KL":
            at += 1
        elif name[at] == "I" and nested:
            at = after_arguments(name, at)
        else:
            break
        if parts and not nested:
            break
    return "::".join(parts) or name


def short(name):
    """The last part of a name: `_ZN1a4copyIfEEvPT_` is copy."""
    return qualified(name).rsplit("::", 1)[-1]


def identifier(name, at):
    """(the identifier whose length stands at `at`, where it ends)."""
    begin = at
    while begin < len(name) and name[begin].isdigit():
        begin += 1
    end = begin + int(name[at:begin])
    return name[begin:end], end


def after_arguments(name, at):
    """Where the template arguments that begin at `at` end."""
    depth = 0
    while at < len(name):
        found = re.match(r"L[a-z]n?\d*E|[ST][\dA-Z]*_|S[a-z]", name[at:])  # a number, a substitution, std::
        if found:
            at += found.end()
        elif name[at].isdigit():
            at = identifier(name, at)[1]
        else:
            depth += (name[at] in "IXJN") - (name[at] == "E")
            at += 1
        if depth == 0:
            break
    return at
