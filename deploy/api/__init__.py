"""The part of ``import reid`` for galleries and cameras: ``Gallery`` and ``Tracker``."""
