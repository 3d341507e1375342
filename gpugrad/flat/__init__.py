"""The compiler: trace a function once, simplify, plan memory, emit one flat program.

Read in this order: ir.py (what a program is), symbol.py and trace.py (making one), simplify.py (passes), tiles.py (what goes over
a few rows at a time), plan.py (memory), emit_numpy.py (source), threads.py (tiles on all cores), program.py and compile.py (what
the user sees). With the extra `jit`: expand.py and fuse.py (what shares a loop), elements.py, vector_math.py and loops.py (the
loops), llvm.py (their text and its cache), spots.py, runtime.py and driver.py (what native code is told), emit_llvm.py (a run).
"""
