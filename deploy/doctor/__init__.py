"""What is wrong on this machine with this model file, found by replaying golden crops."""
