"""SiSNet with the DRC loss (Zhang et al., ICIP 2020)."""
