"""The stages of a recipe, each done in a folder of its own or found there, finished."""
