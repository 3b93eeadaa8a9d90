"""From folders of clips and images to a set of pictures to calibrate on and to verify with."""
