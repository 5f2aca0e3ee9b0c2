"""One reader per dataset: a folder in, a split of image records out."""
