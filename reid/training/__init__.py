"""What training is made of, besides the order of events, which is ``reid.training.loop``'s."""
