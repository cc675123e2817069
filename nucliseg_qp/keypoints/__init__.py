"""Where the nuclei are: the network, its heatmaps, its weights and the device it runs on.

Nothing is imported here, so that naming the package loads no torch.
"""
