"""MSP-CNN (Shen et al., ACM MM 2017)."""
