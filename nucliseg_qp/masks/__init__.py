"""How far each nucleus reaches: slide-wide colour statistics, seeds, watershed, outlines."""
