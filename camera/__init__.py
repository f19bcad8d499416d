"""From images to regions and image features: projection, crops, frozen teachers, cached features, superpixels."""
