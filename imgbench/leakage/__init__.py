"""Finds images of one split that another split has too."""
