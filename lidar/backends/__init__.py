"""Ways to compute the same convolution. A back end is a module with three functions:

``problem(device) -> str | None``: why it cannot run there, None if it can; ``version() -> str``;
``convolve(features (V, Cin), weight (K, Cin, Cout), kernel_map) -> (W, Cout)``, differentiable in both.
"""
