"""How models are measured: the protocol, one file a job, suites of jobs, comparison."""
