"""From images to regions and image features: projection, crops, superpixels, teachers."""
