"""A made street that is driven through: the scene, its sensors, and the log in nuScenes schema."""
