"""Caffe's formats: protocol-buffer text and what it may say, and the binary files."""
