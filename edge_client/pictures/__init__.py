"""Pictures and masks as files to arrays and back, and what is done to their pixels."""
