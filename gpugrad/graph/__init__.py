"""The graph engine. It knows no operation by name.

Read in this order: primitive.py (an operation and its rules), tensor.py (values and nodes), record.py (making nodes),
sweep.py (reverse mode), layers.py (forward mode and batching), views.py (Tensors that share elements), state.py (modes).
"""
