"""The modifiers that each instruction may have here, so that one which would change its meaning is never passed over.

Types are not among them: whether an instruction has a type is its handler's to say.
"""

ROUND = "rn rz rm rp"
COMPARE = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor ftz"
SPACES = "global shared shared-cta shared-cluster local const param param-entry param-func generic"
SCOPES = "cta cluster gpu sys"
ORDERS = "weak relaxed acquire release acq_rel seq_cst volatile mmio"
CACHE = "ca cg cs lu cv wb wt nc unified"  # and everything that begins with L1- or L2-
VECTORS = "v2 v4 v8"
MATRIX = "sync aligned row col"
VIDEO = "sat add min max"

MODIFIERS = {
    "add sub": f"{ROUND} ftz sat cc", "mul": f"{ROUND} ftz sat lo hi wide", "fma": f"{ROUND} ftz sat relu",
    "mad": f"{ROUND} ftz sat lo hi wide cc", "addc subc": "cc", "madc": "lo hi cc", "div": f"{ROUND} approx full ftz",
    "min max": "ftz NaN xorsign abs relu", "abs neg slct": "ftz", "sqrt rcp": f"{ROUND} approx ftz",
    "rsqrt ex2 lg2 sin cos tanh": "approx ftz", "set setp": COMPARE,
    "testp": "finite infinite number notanumber normal subnormal",
    "mul24": "lo hi", "mad24": "lo hi sat", "sad copysign selp mov not cnot popc clz brev bfi bfe fns": "",
    "and or xor shl shr rem": "", "shf": "l r wrap clamp", "lop3": "and or", "bfind": "shiftamt", "bmsk szext": "wrap clamp",
    "prmt": "f4e b4e rc8 ecl ecr rc16", "dp4a": "", "dp2a": "lo hi",
    "vadd vsub vabsdiff vmin vmax": VIDEO, "vshl vshr": f"{VIDEO} wrap clamp", "vset": f"{VIDEO} {COMPARE}",
    "vmad": "sat shr7 shr15 po", "vset2 vset4": f"add {COMPARE}",
    " ".join(f"v{name}{lanes}" for name in ("add", "sub", "min", "max", "absdiff", "avrg") for lanes in (2, 4)): "sat add",
    "cvt": f"{ROUND} rna rni rzi rmi rpi ftz sat satfinite relu pack s4 u4 s2 u2", "cvta": f"to {SPACES}", "isspacep": SPACES,
    "ld ldu": f"{SPACES} {SCOPES} {ORDERS} {CACHE} {VECTORS}", "st": f"{SPACES} {SCOPES} {ORDERS} {CACHE} {VECTORS}",
    "atom red": f"{SPACES} {SCOPES} {ORDERS} {VECTORS} add min max and or xor inc dec exch cas noftz",
    "membar": "cta gl sys cluster", "fence": f"{SCOPES} {ORDERS} sc proxy alias async mbarrier_init async-generic sync_restrict "
    "async.global async.shared-cta global shared-cta shared-cluster shared",
    "prefetch prefetchu": "global local L1 L2", "applypriority discard": "global L2",
    "nanosleep": "", "griddepcontrol": "wait launch_dependents", "setmaxnreg": "inc dec sync aligned", "pmevent": "mask",
    "cp": "async ca cg shared shared-cta shared-cluster global commit_group wait_group wait_all bulk bulk_group read mbarrier "
    "arrive noinc mbarrier-complete_tx-bytes",
    "mapa getctarank": "shared-cluster",
    "mbarrier": f"init inval arrive arrive_drop test_wait try_wait pending_count expect_tx complete_tx noComplete parity "
    f"{SCOPES} {ORDERS} shared shared-cta shared-cluster",
    "bar barrier": f"sync arrive red warp cta aligned popc and or cluster wait {ORDERS}",
    "shfl": "sync up down bfly idx", "vote": "sync all any uni ballot", "match": "any all sync", "activemask": "",
    "redux": "sync add min max and or xor abs NaN", "elect": "sync",
    "mma": f"{MATRIX} satfinite xor and popc " + " ".join(
        f"m{m}n8k{k}" for m, depths in ((8, (4, 16, 32, 128)), (16, (4, 8, 16, 32, 64, 128, 256))) for k in depths)
    + " tf32 s4 u4 b1 e4m3 e5m2",
    "ldmatrix stmatrix": "sync aligned m8n8 x1 x2 x4 trans shared shared-cta", "movmatrix": "sync aligned m8n8 trans",
    "wmma": f"{MATRIX} {SPACES} load store mma a b c d satfinite {ROUND} xor and popc m16n16k16 m32n8k16 m8n32k16 m16n16k8 "
    "m8n8k4 m8n8k32 m8n8k128 s4 u4 b1",
    "trap brkpt exit ret vprintf __assertfail malloc free <pass> <take>": "",
}
ALLOWED = {name: frozenset(words.split()) for names, words in MODIFIERS.items() for name in names.split()}


def unknown(parts, types):
    """The first modifier that the instruction may not have, or None."""
    allowed = ALLOWED.get(parts[0], frozenset())
    return next((part for part in parts[1:] if part not in allowed and part not in types
                 and not part.startswith(("L1-", "L2-"))), None)
