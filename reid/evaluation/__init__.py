"""What an evaluation's figures are made of, in one pass over the distances."""
