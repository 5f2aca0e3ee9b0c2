"""The commands for exported models: parse the options, make one call, print.

Heavy libraries are imported inside the functions, so that ``--help`` needs none of them.
"""
