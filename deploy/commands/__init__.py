"""The commands of the floor that runs exported files: options, one call, one print.

Heavy libraries are imported inside the functions: ``--help`` needs none of them.
"""
