"""The compiler: trace a function once, simplify, plan memory, emit one flat program.

Read in this order: ir.py (what a program is), symbol.py and trace.py (making one), simplify.py (passes), plan.py (memory),
emit_numpy.py (source), program.py and compile.py (what the user sees).
"""
