"""Which colour class a nucleus gets: stain vectors, class rules and the palettes that hold them.

Nothing is imported here, so that naming the package stays cheap.
"""
