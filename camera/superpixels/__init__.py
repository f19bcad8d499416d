"""Regions of images from several sources behind one function."""
