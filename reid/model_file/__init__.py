"""What a file of a model is: its preprocessing contract, its manifest, and how it is opened."""
