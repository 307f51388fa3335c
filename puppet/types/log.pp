# @summary The name of a log, which is also that of the file that defines it
type Mcollective_agent_logforward::Log = Pattern[/\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z/]
