"""The painted tissue behind the synthetic images: looks, layout, nuclei, background, camera."""
