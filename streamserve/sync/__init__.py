"""What greenlets and threads wait for and share: events, results, locks, queues, pools, locals."""
