"""``reid.Gallery`` and ``reid.Tracker``, and one function for each command of this floor."""
