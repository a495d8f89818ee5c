"""What every command needs: errors and exit codes, atomic files, locks, signals, worker processes, HTML pages."""
