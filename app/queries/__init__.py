"""Read-only SQL for the pages, a file a page. Everything returned is frozen and outlives its session."""
