"""The database: how it is opened, who may write when, and all SQL."""
