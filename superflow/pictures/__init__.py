"""Scans as pictures: from above and over the camera images, coloured by class or feature."""
