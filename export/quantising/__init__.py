"""INT8: a float graph with quantised products, calibrated and proven on images of people."""
