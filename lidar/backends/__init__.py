"""Ways to compute the same convolution. A back end is a module with five functions and what it computes in:

``problem(device) -> str | None``: why it cannot run there, None if it can; ``version() -> str``;
``prepare(kernel_map)``: arrange the pairs of a map now instead of in the first layer that needs them; ``prepare_all``:
those of several, waiting for the device as seldom as can be;
``convolve(features (V, Cin), weight (K, Cin, Cout), kernel_map) -> (W, Cout)``, differentiable in both;
``DTYPES``: of the features and the weight.
"""
