"""Scans as bad weather, a moving mount or a faulty sensor would give them: eight models at three levels."""
