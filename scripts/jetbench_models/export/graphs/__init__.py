"""The five graphs of a pack as torch modules, built from the weights of a transformers SAM 2 or EdgeTAM video model.

transformers tracks with Python dictionaries of frames; a device runner wants fixed shapes and state that goes in and comes
out. These modules hold the same arithmetic with that interface: the memory bank and the pointers are ring-free shift
registers inside ``memory_encoder``, and slots that are not filled yet get an additive -1e4 in the attention of
``memory_attention``, whose exponential is exactly zero, so that the result equals the variable-length original.
``verify`` proves the equality frame by frame.

Symbols in the shape comments: O objects, S input size, C hidden channels, f = S/16 (SAM 3: S/14), M memory tokens per frame, D = 64
memory channels, N = 7 memory slots, P = 16 pointer slots. Slot 0 is the prompted frame, slot j the frame j steps back.

``grows=True`` builds the form in which the state holds only what exists, as in the original: shapes change from frame to frame
until all slots are filled. It serves comparison; engines want fixed shapes.

``official=True`` builds the form that follows the official predictors where transformers' session differs from them and a graph
can: the pointer and the memory of a mask prompt, and EdgeTAM's memory as bfloat16. Names and shapes are the same.

Objects are a batch axis, the only one without a fixed size (``OBJECTS`` in the ONNX file). What belongs to the frame and
not to an object has a batch of 1 and is broadcast inside; what does not depend on the object, such as the first
self-attention of ``memory_attention``, is computed once.
"""
