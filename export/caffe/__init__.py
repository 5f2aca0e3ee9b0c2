"""Export to and import from Caffe's files, and blob-by-blob comparison."""
