"""From points to point features: voxels, sparse convolution, backbones."""
