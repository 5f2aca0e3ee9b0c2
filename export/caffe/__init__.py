"""Caffe's files from a network and back, compared blob by blob."""
