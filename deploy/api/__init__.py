"""What ``import reid`` offers of this floor: ``Gallery`` and ``Tracker``."""
