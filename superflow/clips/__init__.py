"""A prepared log as training samples: clouds of several times, their images, and who sees what."""
