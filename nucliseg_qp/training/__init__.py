"""Training of the keypoint network and the synthetic images it learns from."""
