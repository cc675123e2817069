"""What people correct in QuPath teaches the engine: collected, compared, learnt from."""
