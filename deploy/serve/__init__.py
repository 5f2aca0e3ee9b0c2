"""A gallery on a web page: the standard library's server, one page, plain JavaScript."""
