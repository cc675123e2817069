"""What is measured: shape and stain of each nucleus, scores of each image, tables of both.

Nothing is imported here, so that naming the package stays cheap.
"""
