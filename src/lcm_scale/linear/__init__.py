"""Linear models of connectomes, fitted on inner products between scans."""
