"""CSN (Guo and Cheung, CVPR 2018)."""
