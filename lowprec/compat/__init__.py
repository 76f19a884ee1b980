"""Other packages' names for what this one does, so that their scripts run here unchanged."""
